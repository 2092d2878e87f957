/* Keeps numbers in memory that it mapped itself, with room to grow: each line of standard input adds one. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 8 };

struct keeper {
#if VERSION == 2
    long added;
#endif
    long *numbers;
    long count;
};

static struct keeper keeper;

int main(void)
{
    char line[64];
    keeper.numbers = mmap(NULL, PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (keeper.numbers == MAP_FAILED || mprotect(keeper.numbers, 2 * PAGE, PROT_READ | PROT_WRITE) != 0)
        return 1;
    for (;;) {
        ssize_t size = read(0, line, sizeof line - 1);
        if (size <= 0)
            return 0;
        keeper.numbers[keeper.count % 1000] = keeper.count;
        keeper.count++;
        size = snprintf(line, sizeof line, "%d %ld\n", VERSION, keeper.count);
        if (write(1, line, (size_t)size) != size)
            return 1;
    }
}
