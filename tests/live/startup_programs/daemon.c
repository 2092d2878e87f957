/* A daemon as the textbook has it: double fork, a pid file that is locked, a look whether it runs already.
 * Arguments: PORT PIDFILE LOCK, where LOCK is flock, fcntl, lockf, excl or plain. */
#include "scenario.h"
#include <poll.h>
#include <sys/file.h>
#include <sys/wait.h>

static int listener, pid_file = -1;

static void daemonise(void)
{
    int gate[2];
    require(pipe(gate) == 0, "pipe");
    if (fork() != 0) {
        char done;
        close(gate[1]);
        _exit(read(gate[0], &done, 1) == 1 ? 0 : 5);
    }
    require(setsid() == getpid(), "setsid");
    signal(SIGHUP, SIG_IGN);
    pid_t child = fork();
    if (child)
        _exit(0);
    close(gate[0]);
    require(chdir("/") == 0, "chdir");
    umask(027);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    close(null);
    require(write(gate[1], "k", 1) == 1, "gate");
    close(gate[1]);
}

static void refuse_if_running(const char *path)
{
    char text[32] = "";
    int file = open(path, O_RDONLY);
    if (file < 0)
        return;
    require(read(file, text, sizeof text - 1) >= 0, "read pid file");
    close(file);
    int pid = atoi(text);
    require(pid <= 0 || (kill(pid, 0) < 0 && errno == ESRCH), "another one is running");
    char directory[64];
    snprintf(directory, sizeof directory, "/proc/%d", pid);
    require(pid <= 0 || access(directory, F_OK) < 0, "another one is in /proc");
    if (VERSION == 2 && pid > 0)
        require(kill(pid, SIGTERM) < 0 && errno == ESRCH, "the old one was reached");
}

static void write_pid(const char *path, const char *lock)
{
    int excl = strcmp(lock, "excl") == 0, plain = strcmp(lock, "plain") == 0;
    pid_file = open(path, O_RDWR | O_CREAT | (excl ? O_EXCL : 0) | (plain ? O_TRUNC : 0), 0644);
    require(pid_file >= 0, "open pid file");
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (strcmp(lock, "flock") == 0)
        require(flock(pid_file, LOCK_EX | LOCK_NB) == 0, "flock");
    if (strcmp(lock, "lockf") == 0)
        require(lockf(pid_file, F_TLOCK, 0) == 0, "lockf");
    if (strcmp(lock, "fcntl") == 0) {
        struct flock test = whole;
        require(fcntl(pid_file, F_GETLK, &test) == 0 && test.l_type == F_UNLCK, "F_GETLK");
        require(fcntl(pid_file, F_SETLK, &whole) == 0, "F_SETLK");
    }
    char text[32];
    int length = snprintf(text, sizeof text, "%d\n", getpid());
    require(ftruncate(pid_file, 0) == 0, "ftruncate");
    require(write(pid_file, text, length) == length, "write pid");
    if (plain)
        close(pid_file);
}

int main(int argc, char **argv)
{
    (void)argc;
    daemonise();
    refuse_if_running(argv[2]);
    write_pid(argv[2], argv[3]);
    listener = listen_tcp(atoi(argv[1]));
    say("ready %d", getpid());
    for (;;) {
        struct pollfd entry = {.fd = listener, .events = POLLIN};
        if (poll(&entry, 1, -1) == 1)
            serve_one(listener);
    }
}
