/* Answers lines that it reads with a function of stdio: fgets, getline, fread, getc. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

static long lines, bytes;
static char *line;
static size_t capacity;
#ifdef SECOND
static long more;
#endif

static NOINLINE int next(const char *how)
{
    static char buffer[200];
    if (strcmp(how, "getline") == 0)
        return getline(&line, &capacity, stdin) > 0 ? (int)strlen(line) : -1;
    if (strcmp(how, "fread") == 0)
        return fread(buffer, 1, 8, stdin) == 8 ? 8 : -1;
    return fgets(buffer, sizeof buffer, stdin) ? (int)strlen(buffer) : -1;
}

static NOINLINE int turn(const char *how)
{
    int length = next(how);
    if (length < 0)
        return 0;
    lines++;
    bytes += length;
    printf("%s %ld %ld\n", VERSION, lines, bytes);
    return 1;
}

int main(int argc, char **argv)
{
    const char *how = argc > 1 ? argv[1] : "fgets";
    setbuf(stdout, NULL);
    puts("ready");
    while (turn(how))
        ;
    return 0;
}
