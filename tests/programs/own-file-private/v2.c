#include "scenario.h"

#include <fcntl.h>
#include <sys/mman.h>

enum { SIZE = 3 * 4096 };

STATE const char *text;
STATE char *draft;
STATE long more[40];

void fill(void)
{
    static char page[SIZE];
    int file = open("scenario-file", O_CREAT | O_RDWR | O_TRUNC, 0600);
    memset(page, 'a', sizeof page);
    if (write(file, page, sizeof page) != sizeof page)
        abort();
    text = mmap(NULL, SIZE, PROT_READ, MAP_PRIVATE, file, 0);
    draft = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    close(file);
    if (text == MAP_FAILED || draft == MAP_FAILED)
        abort();
    draft[5000] = 'b';
}

const char *check(void)
{
    char byte = 0;
    int file = open("scenario-file", O_RDWR);
    EXPECT(text[0] == 'a' && text[SIZE - 1] == 'a' && text[5000] == 'a');
    EXPECT(draft[0] == 'a' && draft[5000] == 'b' && draft[5001] == 'a' && draft[SIZE - 1] == 'a');
    EXPECT(pread(file, &byte, 1, 5000) == 1 && byte == 'a');
    close(file);
    return NULL;
}
