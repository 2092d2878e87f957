/* Odd things to find at a start. Arguments: MODE DIRECTORY. Both versions do the same. */
#include "scenario.h"
#include <poll.h>
#include <sys/un.h>

static int input = -1;

/* A FIFO that is made anew at every start and kept open for reading. */
static void use_fifo(void)
{
    unlink("fifo");
    require(mkfifo("fifo", 0600) == 0, "mkfifo");
    input = open("fifo", O_RDWR | O_NONBLOCK);
    require(input >= 0, "open fifo");
    char data[8];
    require(VERSION == 1 || (read(input, data, 8) < 0 && errno == EAGAIN), "nothing is read from the old one's fifo");
}

/* A socket file of nobody, left behind by an earlier process. */
static void use_stale(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "stale"};
    input = socket(AF_UNIX, SOCK_DGRAM, 0);
    if (VERSION == 1)
        return;
    require(unlink("stale") == 0, "unlink");
    require(bind(input, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    struct stat facts;
    require(stat("stale", &facts) == 0 && S_ISSOCK(facts.st_mode), "it is there");
    require(chmod("stale", 0622) == 0, "chmod");
}

/* Socket activation: the listener is passed as descriptor 3. */
static void use_passed(void)
{
    const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
    require(count && atoi(count) == 1 && pid, "LISTEN_FDS");
    require(VERSION == 1 || atoi(pid) == getpid(), "LISTEN_PID");
    input = 3;
}

static void use_terminal(void)
{
    char name[64];
    require(isatty(1) && ttyname_r(1, name, sizeof name) == 0, "a terminal");
    int again = open(name, O_RDWR | O_NOCTTY);
    require(again >= 0 && write(again, "hello\n", 6) == 6, "write to the terminal by name");
    close(again);
    input = 0;
}

static void use_links(void)
{
    int file = open("/proc/self/fd/1", O_WRONLY | O_APPEND);
    require(file >= 0 && write(file, "by /proc\n", 9) == 9, "/proc/self/fd/1");
    close(file);
    file = open("/dev/stderr", O_WRONLY | O_APPEND);
    require(file >= 0 && write(file, "by /dev\n", 8) == 8, "/dev/stderr");
    close(file);
    int other = open("/proc/self/comm", O_RDWR);
    require(other >= 0 && write(other, "renamed", 7) == 7, "/proc/self/comm");
    close(other);
}

int main(int argc, char **argv)
{
    (void)argc;
    require(chdir(argv[2]) == 0, "chdir");
    if (strcmp(argv[1], "fifo") == 0)
        use_fifo();
    else if (strcmp(argv[1], "stale") == 0)
        use_stale();
    else if (strcmp(argv[1], "passed") == 0)
        use_passed();
    else if (strcmp(argv[1], "terminal") == 0)
        use_terminal();
    else if (strcmp(argv[1], "links") == 0)
        use_links();
    say("ready v%d", VERSION);
    for (;;) {
        struct pollfd entry = {.fd = input, .events = POLLIN};
        char data[64];
        if (poll(&entry, 1, -1) != 1)
            continue;
        if (strcmp(argv[1], "passed") == 0) {
            serve_one(input);
            continue;
        }
        ssize_t got = read(input, data, sizeof data);
        if (got > 0)
            say("v%d got %d", VERSION, (int)got);
        else if (got == 0)
            return 0;
    }
}
