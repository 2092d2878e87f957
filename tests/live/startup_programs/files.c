/* What a start does to files. Arguments: DIRECTORY MODE. Version 1 makes the files, version 2 does what MODE says. */
#include "scenario.h"
#include <sys/un.h>
#include <utime.h>

static int log_file;

static void put(const char *path, int flags, const char *text)
{
    int file = open(path, O_WRONLY | O_CREAT | flags, 0644);
    require(file >= 0, path);
    require(write(file, text, strlen(text)) == (ssize_t)strlen(text), path);
    require(close(file) == 0, path);
}

static int exists(const char *path)
{
    struct stat facts;
    return lstat(path, &facts) == 0;
}

static void first_start(void)
{
    log_file = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
    require(write(log_file, "v1 starts\n", 10) == 10, "log");
    put("data", 0, "0123456789");
    put("stale", 0, "stale");
    require(mkdir("old", 0755) == 0, "mkdir");
    put("old/inside", 0, "x");
    require(mkdir("empty", 0755) == 0, "mkdir");
}

static void append(void)
{
    log_file = open("log", O_WRONLY | O_CREAT | O_APPEND, 0644);
    struct stat by_name, by_number;
    require(stat("log", &by_name) == 0 && fstat(log_file, &by_number) == 0, "stat");
    require(by_name.st_ino == by_number.st_ino, "the log is the very file");
    FILE *stream = fdopen(log_file, "a");
    fprintf(stream, "v2 starts\n");
    require(fflush(stream) == 0, "fflush");
}

static void rewrite(void)
{
    put("data", O_TRUNC, "new");
    put("stale", 0, "ST");
    require(truncate("stale", 3) == 0, "truncate");
    require(chmod("data", 0600) == 0 && chown("stale", 12, 34) == 0, "chmod and chown");
    int file = open("data", O_RDWR);
    require(pwrite(file, "N", 1, 0) == 1 && fchmod(file, 0640) == 0, "pwrite and fchmod");
    close(file);
}

static void rotate(void)
{
    require(rename("log", "log.1") == 0, "rename");
    require(!exists("log") && exists("log.1"), "the rename is seen");
    require(rename("log", "nowhere") < 0 && errno == ENOENT, "it is gone");
    log_file = open("log", O_WRONLY | O_CREAT | O_EXCL | O_APPEND, 0600);
    require(log_file >= 0, "new log");
    require(write(log_file, "fresh\n", 6) == 6, "write");
    struct stat by_name, by_number;
    require(stat("log", &by_name) == 0 && fstat(log_file, &by_number) == 0, "stat");
    require(by_name.st_ino == by_number.st_ino && by_name.st_size == 6, "the new log has its own inode");
}

static void replace(void)
{
    put("data.tmp", O_EXCL, "replaced");
    require(rename("data.tmp", "data") == 0, "rename over");
    char text[16] = "";
    int file = open("data", O_RDONLY);
    require(read(file, text, 15) == 8 && strcmp(text, "replaced") == 0, "the new content is seen");
    close(file);
    require(!exists("data.tmp"), "the temporary name is gone");
    require(unlink("stale") == 0 && !exists("stale") && access("stale", F_OK) < 0, "unlink");
    require(unlink("stale") < 0 && errno == ENOENT, "unlink twice");
    put("stale", 0, "again");
    require(rmdir("old") < 0 && errno == ENOTEMPTY, "rmdir full");
    require(rmdir("empty") == 0 && !exists("empty"), "rmdir");
}

static void create(void)
{
    require(mkdir("made", 0755) == 0, "mkdir");
    put("made/file", O_EXCL, "content");
    put("made/file", O_APPEND, " more");
    put("made/second", 0, "gone");
    require(unlink("made/second") == 0, "unlink own");
    require(rename("made/file", "made/renamed") == 0, "rename own");
    require(symlink("renamed", "made/link") == 0 && link("made/renamed", "made/hard") == 0, "links");
    require(link("data", "data.link") == 0, "link to the old file");
    require(mkfifo("made/fifo", 0600) == 0, "mkfifo");
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "made/socket"};
    int sock = socket(AF_UNIX, SOCK_DGRAM, 0);
    require(bind(sock, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    require(chmod("made/renamed", 0600) == 0 && chmod("made/socket", 0600) == 0, "chmod own");
    char text[32] = "";
    int file = open("made/renamed", O_RDONLY);
    require(read(file, text, 31) == 12 && strcmp(text, "content more") == 0, "own content");
    close(file);
}

int main(int argc, char **argv)
{
    (void)argc;
    require(chdir(argv[1]) == 0, "chdir");
    if (VERSION == 1)
        first_start();
    else if (strcmp(argv[2], "append") == 0)
        append();
    else if (strcmp(argv[2], "rewrite") == 0)
        rewrite();
    else if (strcmp(argv[2], "rotate") == 0)
        rotate();
    else if (strcmp(argv[2], "replace") == 0)
        replace();
    else if (strcmp(argv[2], "create") == 0)
        create();
    say("ready v%d", VERSION);
    for (;;)
        pause();
}
