/* Keeps what it is told in a stream, half of it unwritten: each line of standard input adds one to its sum. */
#include <stdio.h>
#include <unistd.h>

struct journal {
#if VERSION == 2
    long added;
#endif
    FILE *file;
    long lines;
};

static struct journal journal;

int main(void)
{
    char line[64];
    journal.file = tmpfile();
    for (;;) {
        ssize_t size = read(0, line, sizeof line - 1);
        if (size <= 0 || journal.file == NULL)
            return 0;
        journal.lines++;
        fprintf(journal.file, "line %ld\n", journal.lines);
        size = snprintf(line, sizeof line, "%d %ld\n", VERSION, ftell(journal.file) * 1000 + journal.lines);
        if (write(1, line, (size_t)size) != size)
            return 1;
    }
}
