/* FILE objects in every state. The past opens them under fixed descriptors; the future's start-up opens only its log and
 * prints a line into it. `streams` is the state that an update carries. argv: past|future, a directory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOG, WRITER, APPENDER, READER, PUSHED, ENDED, LINES, RAW, PIPE, UPDATED, UNTOUCHED, TWO_IN, TWO_OUT, COUNT };
FILE *streams[COUNT];
static const char *directory;

static void check(int ok, const char *what)
{
    if (!ok) {
        dprintf(2, "streams: %s: %s\n", what, strerror(errno));
        abort();
    }
}

static FILE *open_at(int number, const char *name, int flags, const char *mode)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int descriptor = open(path, flags | O_CREAT, 0600);
    check(descriptor >= 0 && dup2(descriptor, number) == number, path);
    if (descriptor != number)
        close(descriptor);
    FILE *file = fdopen(number, mode);
    check(file != NULL, mode);
    return file;
}

static void open_log(const char *text)
{
    streams[LOG] = open_at(20 + LOG, "log", O_WRONLY | O_APPEND, "a");
    fputs(text, streams[LOG]);
}

static void open_all(void)
{
    char line[64];
    int pair[2];
    streams[WRITER] = open_at(20 + WRITER, "writer", O_WRONLY | O_TRUNC, "w");
    setvbuf(streams[WRITER], NULL, _IOFBF, 0);
    for (int i = 0; i < 1000; i++)
        fprintf(streams[WRITER], "line %d\n", i); /* some of it is written, some is not */
    streams[APPENDER] = open_at(20 + APPENDER, "appender", O_RDWR | O_APPEND, "a+");
    fputs("appended", streams[APPENDER]);
    streams[READER] = open_at(20 + READER, "input", O_RDONLY, "r");
    check(fgets(line, sizeof line, streams[READER]) && strcmp(line, "one\n") == 0, "reader");
    streams[PUSHED] = open_at(20 + PUSHED, "input", O_RDONLY, "r");
    check(getc(streams[PUSHED]) == 'o' && ungetc('Z', streams[PUSHED]) == 'Z' && ungetc('Y', streams[PUSHED]) == 'Y', "ungetc");
    streams[ENDED] = open_at(20 + ENDED, "empty", O_RDONLY, "r");
    check(getc(streams[ENDED]) == EOF && feof(streams[ENDED]), "end");
    streams[LINES] = open_at(20 + LINES, "lines", O_WRONLY, "w");
    setvbuf(streams[LINES], malloc(300), _IOLBF, 300);
    fputs("whole\npart", streams[LINES]);
    streams[RAW] = open_at(20 + RAW, "raw", O_WRONLY, "w");
    setvbuf(streams[RAW], NULL, _IONBF, 0);
    fputs("raw", streams[RAW]);
    check(pipe(pair) == 0 && write(pair[1], "first\nsecond\nthird", 18) == 18, "pipe");
    check(dup2(pair[0], 20 + PIPE) == 20 + PIPE && dup2(pair[1], 60) == 60, "pipe");
    close(pair[0]);
    close(pair[1]);
    streams[PIPE] = fdopen(20 + PIPE, "r");
    check(fgets(line, sizeof line, streams[PIPE]) && strcmp(line, "first\n") == 0, "pipe");
    streams[UPDATED] = open_at(20 + UPDATED, "updated", O_RDWR | O_TRUNC, "r+");
    fputs("0123456789", streams[UPDATED]);
    check(fseek(streams[UPDATED], 3, SEEK_SET) == 0 && getc(streams[UPDATED]) == '3', "seek");
    streams[UNTOUCHED] = open_at(20 + UNTOUCHED, "untouched", O_WRONLY, "w");
    streams[TWO_IN] = open_at(20 + TWO_IN, "input", O_RDWR, "r");
    streams[TWO_OUT] = fdopen(20 + TWO_IN, "w"); /* two streams on one descriptor */
    fputs("pending on stdout ", stdout);
}

static void show_file(const char *name)
{
    char path[512], text[16384];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    size_t length = file ? fread(text, 1, sizeof text - 1, file) : 0;
    text[length] = 0;
    for (size_t i = 0; i < length; i++)
        if (text[i] == '\n')
            text[i] = '|';
    printf("%s=[%s] ", name, length > 100 ? text + length - 20 : text);
    if (file)
        fclose(file);
}

static void use_all(void)
{
    char line[64];
    printf("size=%zu,%zu ", __fbufsize(streams[WRITER]), __fbufsize(streams[LINES]));
    printf("pending=%zu,%zu ", __fpending(streams[APPENDER]), __fpending(streams[LINES]));
    printf("line=%d raw=%zu ", __flbf(streams[LINES]) != 0, __fbufsize(streams[RAW]));
    printf("modes=%d%d%d ", __freadable(streams[WRITER]) != 0, __fwritable(streams[READER]) != 0,
           __freadable(streams[UPDATED]) && __fwritable(streams[UPDATED]));
    show_file("lines");
    show_file("raw");
    fputs(" more\n", streams[LINES]);
    fputs("+", streams[RAW]);
    show_file("lines");
    show_file("raw");
    show_file("appender");
    fputs("|end", streams[APPENDER]);
    fputs("the end\n", streams[WRITER]);
    fputs("served\n", streams[LOG]);
    check(fgets(line, sizeof line, streams[READER]) != NULL, "fgets");
    printf("reader=%.3s tell=%ld ", line, ftell(streams[READER]));
    for (int i = 0; i < 5; i++)
        putchar(getc(streams[PUSHED]));
    printf(" end=%d ", feof(streams[ENDED]) != 0);
    check(fgets(line, sizeof line, streams[PIPE]) != NULL, "fgets");
    printf("pipe=%.6s ", line);
    check(write(60, " and more\n", 10) == 10, "pipe");
    check(fgets(line, sizeof line, streams[PIPE]) != NULL, "fgets");
    printf("pipe=%.14s ", line);
    printf("tell=%ld ", ftell(streams[UPDATED]));
    check(fseek(streams[UPDATED], 0, SEEK_CUR) == 0 && fputs("XY", streams[UPDATED]) != EOF, "update");
    fputs("touched", streams[UNTOUCHED]);
    check(fgets(line, sizeof line, streams[TWO_IN]) != NULL, "fgets");
    printf("two=%.3s%d ", line, fileno(streams[TWO_OUT]) == fileno(streams[TWO_IN]));
    for (int i = 0; i < COUNT; i++)
        if (i != TWO_OUT)
            check(fclose(streams[i]) == 0, "fclose");
    show_file("updated");
    show_file("untouched");
    show_file("appender");
    show_file("writer");
    show_file("log");
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char line[64];
    directory = argv[2];
    if (strcmp(argv[1], "past") == 0) {
        open_log("past\n");
        fflush(streams[LOG]);
        fputs("not yet flushed\n", streams[LOG]);
    } else if (strcmp(argv[1], "future") == 0)
        open_log("future started\n");
    if (strcmp(argv[1], "past") == 0)
        open_all();
    check(write(1, "ready\n", 6) == 6, "ready");
    for (;;) {
        ssize_t length = read(0, line, sizeof line - 1);
        if (length <= 0)
            return 0;
        if (line[0] == 'c')
            use_all();
        else
            check(write(1, "well\n", 5) == 5, "well");
    }
}
