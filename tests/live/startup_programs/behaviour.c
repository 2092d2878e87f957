/* Version 2 does at its start what MODE says; version 1 only waits. Arguments: MODE [WORD]. */
#include "scenario.h"
#include <dlfcn.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/timex.h>
#include <time.h>

extern char **environ;
static const char *word;

static int inet_send(int type)
{
    struct sockaddr_in address = local_address(atoi(word));
    int sock = socket(AF_INET, type, 0);
    if (type == SOCK_STREAM)
        return connect(sock, (struct sockaddr *)&address, sizeof address);
    require(connect(sock, (struct sockaddr *)&address, sizeof address) == 0, "UDP connect is fine");
    return (int)send(sock, "x", 1, 0);
}

static void set_address(void)
{
    struct ifreq request = {.ifr_name = "lo"};
    int sock = socket(AF_INET, SOCK_DGRAM, 0);
    require(ioctl(sock, SIOCGIFFLAGS, &request) == 0, "reading is fine");
    ioctl(sock, SIOCSIFFLAGS, &request);
}

static void use_queue(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", word);
    int sock = socket(AF_UNIX, SOCK_STREAM, 0);
    connect(sock, (struct sockaddr *)&address, sizeof address);
}

static void *idle(void *nothing)
{
    pause();
    return nothing;
}

static void *finish(void *nothing)
{
    return nothing;
}

static int crash(volatile int *address)
{
    return *address;
}

static void use_helpers(void)
{
    int status, ends[2];
    char text[16] = "";
    require(system("exit 7") == 7 << 8, "system");
    require(pipe(ends) == 0, "pipe");
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        execlp("echo", "echo", "helped", (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    require(read(ends[0], text, 15) == 7 && strcmp(text, "helped\n") == 0, "output of a child");
    require(waitpid(child, &status, 0) == child && status == 0, "waitpid");
    char *arguments[] = {"true", NULL};
    require(posix_spawnp(&child, "true", NULL, NULL, arguments, environ) == 0, "posix_spawn");
    require(waitpid(child, &status, 0) == child && status == 0, "waitpid");
    child = fork();
    if (child == 0)
        for (;;)
            pause();
    require(kill(child, SIGKILL) == 0 && waitpid(child, &status, 0) == child, "kill own child");
    pthread_t thread;
    require(pthread_create(&thread, NULL, finish, NULL) == 0 && pthread_join(thread, NULL) == 0, "thread");
    require(getenv("LD_PRELOAD") == NULL, "nothing of the tool in the environment");
    signal(SIGUSR1, SIG_IGN);
    require(raise(SIGUSR1) == 0 && kill(getpid(), SIGUSR1) == 0, "signals to itself");
}

static void probe(void)
{
    struct epoll_event event;
    int set = epoll_create1(0);
    require(epoll_wait(set, &event, 1, 10) == 0, "probe");
    struct timespec time = {0, 5000000};
    require(nanosleep(&time, NULL) == 0 && poll(NULL, 0, 5) == 0, "sleeps");
}

static void share_map(void)
{
    int file = open(word, O_RDWR);
    require(file >= 0, "open");
    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
}

static void read_back(void)
{
    char data[4];
    int file = open(word, O_RDWR);
    require(write(file, "ab", 2) == 2, "write");
    require(pread(file, data, 2, 0) == 2, "pread");
}

static int behave(const char *mode)
{
#define CASE(name, action) \
    if (strcmp(mode, name) == 0) { \
        action; \
        return 0; \
    }
    CASE("nothing", )
    CASE("tcp", inet_send(SOCK_STREAM))
    CASE("udp", inet_send(SOCK_DGRAM))
    CASE("unix", use_queue())
    CASE("kill", kill(atoi(word), SIGTERM))
    CASE("kill-all", kill(-1, 0))
    CASE("kill-group", kill(-atoi(word), SIGTERM))
    CASE("shm", shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600))
    CASE("posix-shm", shm_open("/instar-test", O_CREAT | O_RDWR, 0600))
    CASE("mount", mount("none", "/mnt", "tmpfs", 0, ""))
    CASE("hostname", sethostname("x", 1))
    CASE("sysctl", open("/proc/sys/net/ipv4/ip_forward", O_WRONLY))
    CASE("interface", set_address())
    CASE("ptrace", ptrace(PTRACE_ATTACH, atoi(word), 0, 0))
    CASE("device", mknod("device", S_IFCHR | 0600, 0x0103))
    CASE("map", share_map())
    CASE("read-back", read_back())
    CASE("exit", { fprintf(stderr, "cannot start: %s\n", word); exit(9); })
    CASE("crash", exit(crash(NULL)))
    CASE("abort", abort())
    CASE("spin", for (;;))
    CASE("elsewhere", pause())
    CASE("thread", { pthread_t thread; pthread_create(&thread, NULL, idle, NULL); })
    CASE("child", if (fork() == 0) { idle(NULL); })
    CASE("helpers", use_helpers())
    CASE("probe", probe())
    return 1;
}

static void describe(void)
{
    char directory[256];
    struct rlimit files;
    mode_t mask = umask(0);
    umask(mask);
    require(getcwd(directory, sizeof directory) != NULL, "getcwd");
    require(getrlimit(RLIMIT_NOFILE, &files) == 0, "getrlimit");
    say("%d %d %d %o %s %lu %d %s", getuid(), getegid(), getgroups(0, NULL), mask, directory,
        (unsigned long)files.rlim_cur, getpriority(PRIO_PROCESS, 0), getenv("COLOUR") ? getenv("COLOUR") : "-");
}

__attribute__((noinline)) static int rest(void)
{
    struct pollfd input = {.fd = 0, .events = POLLIN};
    char line[64];
    if (poll(&input, 1, -1) == 1) {
        ssize_t got = read(0, line, sizeof line);
        if (got <= 0)
            exit(0);
        say("v%d got %d", VERSION, (int)got);
    }
    return 0;
}

int main(int argc, char **argv)
{
    word = argc > 2 ? argv[2] : "";
    if (VERSION == 2 && behave(argv[1]))
        exit(8);
    say("ready");
    describe();
    for (;;)
        rest();
}
