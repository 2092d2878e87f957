/* Descriptors with a state in the kernel that nobody sees in /proc: it must be the very same object afterwards. */
#include "scenario.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pty.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>

STATE int queue, routes, packets[2], listener, half[2], waiting, urgent[2], peeked[2], locked, leased, direct,
    folder, memory, itself, master, slave, notify, owned, stranger[2], asked, process;
STATE volatile sig_atomic_t events, urgencies;

static void must(int good)
{
    if (!good)
        abort();
}

static void on_event(int number, siginfo_t *info, void *context)
{
    (void)number, (void)info, (void)context;
    events++;
}

static void on_urgency(int number)
{
    (void)number;
    urgencies++;
}

static void fill_signals(void)
{
    struct sigaction action = {.sa_sigaction = on_event, .sa_flags = SA_SIGINFO | SA_RESTART};
    must(sigaction(SIGRTMIN + 3, &action, NULL) == 0);
    struct sigaction urgency = {.sa_handler = on_urgency, .sa_flags = SA_RESTART};
    must(sigaction(SIGURG, &urgency, NULL) == 0);
}

static void connect_pair(int pair[2])
{
    struct sockaddr_in address;
    socklen_t length = sizeof address;
    must(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    must((pair[0] = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    must(connect(pair[0], (struct sockaddr *)&address, length) == 0);
    must((pair[1] = accept(listener, NULL, NULL)) >= 0);
}

static void fill_streams(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int on = 1, room = 40000, keep = 77, offset = 2;
    struct linger linger = {1, 9};
    must((listener = socket(AF_INET, SOCK_STREAM, 0)) >= 0);
    must(bind(listener, (struct sockaddr *)&address, sizeof address) == 0 && listen(listener, 8) == 0);
    connect_pair(half);
    must(write(half[0], "tail", 4) == 4 && shutdown(half[0], SHUT_WR) == 0);
    must(setsockopt(half[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
    must(setsockopt(half[1], SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    must(setsockopt(half[1], SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on) == 0);
    must(setsockopt(half[1], IPPROTO_TCP, TCP_KEEPIDLE, &keep, sizeof keep) == 0);
    must(setsockopt(half[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    connect_pair(urgent);
    must(fcntl(urgent[1], F_SETOWN, getpid()) == 0); /* SIGURG, without O_ASYNC */
    must(write(urgent[0], "ab", 2) == 2 && send(urgent[0], "!", 1, MSG_OOB) == 1);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, peeked) == 0 && write(peeked[0], "abcdef", 6) == 6);
    must(setsockopt(peeked[1], SOL_SOCKET, SO_PEEK_OFF, &offset, sizeof offset) == 0);
    must((waiting = socket(AF_INET, SOCK_STREAM, 0)) >=
         0); /* in the listener's queue, accepted by nobody yet */
    must(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    must(connect(waiting, (struct sockaddr *)&address, sizeof address) == 0 && write(waiting, "hi", 2) == 2);
    must(socketpair(AF_UNIX, SOCK_DGRAM, 0, stranger) == 0);
    must(setsockopt(stranger[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0);
    must(send(stranger[0], "who", 3, 0) == 3);
    must((asked = socket(AF_UNIX, SOCK_STREAM, 0)) >= 0); /* neither bound nor connected */
}

static void fill_kernel(void)
{
    char name[64];
    struct mq_attr shape = {.mq_maxmsg = 4, .mq_msgsize = 32};
    snprintf(name, sizeof name, "/instar-rare-%d", (int)getpid());
    must((queue = mq_open(name, O_CREAT | O_RDWR | O_NONBLOCK, 0600, &shape)) >= 0 && mq_unlink(name) == 0);
    must(mq_send(queue, "low", 3, 1) == 0 && mq_send(queue, "high", 4, 9) == 0);
    struct sockaddr_nl groups = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    must((routes = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK, NETLINK_ROUTE)) >= 0);
    must(bind(routes, (struct sockaddr *)&groups, sizeof groups) == 0);
    must(pipe2(packets, O_DIRECT) == 0 && fcntl(packets[1], F_SETPIPE_SZ, 1 << 17) == 1 << 17);
    must(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5);
    must(openpty(&master, &slave, NULL, NULL, NULL) == 0);
    struct termios mode;
    must(tcgetattr(slave, &mode) == 0);
    mode.c_lflag &= ~(tcflag_t)ECHO;
    must(tcsetattr(slave, TCSANOW, &mode) == 0 && write(master, "line\nhalf", 9) == 9);
}

static void fill_files(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 3, .l_len = 4};
    must((locked = open("ofd", O_CREAT | O_RDWR, 0600)) >= 0 && fcntl(locked, F_OFD_SETLK, &lock) == 0);
    must((leased = open("leased", O_CREAT | O_RDONLY, 0600)) >= 0);
    must(fcntl(leased, F_SETSIG, SIGRTMIN + 3) == 0 && fcntl(leased, F_SETLEASE, F_RDLCK) == 0);
    must((direct = open("direct", O_CREAT | O_RDWR | O_NOATIME, 0600)) >= 0);
    must(fcntl(direct, F_SETFL, O_DIRECT | O_NOATIME) == 0 || fcntl(direct, F_SETFL, O_NOATIME) == 0);
    must(ftruncate(direct, 8192) == 0 && lseek(direct, 4096, SEEK_SET) == 4096);
    must(mkdir("folder", 0700) == 0 && close(open("folder/a", O_CREAT, 0600)) == 0 &&
         close(open("folder/b", O_CREAT, 0600)) == 0 && close(open("folder/c", O_CREAT, 0600)) == 0);
    must((folder = open("folder", O_RDONLY | O_DIRECTORY)) >= 0);
    must((memory = open("/proc/self/mem", O_RDONLY)) >= 0 &&
         (itself = open("/proc/self/status", O_RDONLY)) >= 0);
    must((notify = inotify_init1(IN_NONBLOCK)) >= 0 && inotify_add_watch(notify, "folder", IN_CREATE) == 1);
    must(close(open("folder/d", O_CREAT, 0600)) == 0); /* an event that nobody has read */
    must((process = (int)syscall(SYS_pidfd_open, getpid(), 0)) >= 0);
    must((owned = socket(AF_INET, SOCK_DGRAM, 0)) >= 0 && fcntl(owned, F_SETOWN, -getpgrp()) == 0);
}

void fill(void)
{
    fill_signals();
    fill_streams();
    fill_kernel();
    fill_files();
}

static int option(int socket_, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    return getsockopt(socket_, level, name, &value, &length) == 0 ? value : -1;
}

static const char *check_streams(void)
{
    char text[16] = {0};
    struct linger linger;
    socklen_t length = sizeof linger;
    EXPECT(recv(half[1], text, sizeof text, MSG_PEEK) == 4 && !memcmp(text, "tail", 4));
    EXPECT(option(half[1], IPPROTO_TCP, TCP_NODELAY) == 1 && option(half[1], SOL_SOCKET, SO_RCVBUF) == 80000);
    EXPECT(option(half[1], IPPROTO_TCP, TCP_KEEPIDLE) == 77 &&
           option(half[1], SOL_SOCKET, SO_KEEPALIVE) == 1);
    EXPECT(getsockopt(half[1], SOL_SOCKET, SO_LINGER, &linger, &length) == 0 && linger.l_linger == 9);
    EXPECT(write(half[1], "x", 1) == 1 && read(half[0], text, 4) == 1); /* the other direction is open */
    EXPECT(send(half[0], "x", 1, MSG_NOSIGNAL) < 0);                    /* this one is not */
    EXPECT(recv(urgent[1], text, 1, MSG_OOB | MSG_PEEK) == 1 && text[0] == '!');
    EXPECT(fcntl(urgent[1], F_GETOWN) == getpid());
    EXPECT(recv(peeked[1], text, 2, MSG_PEEK) == 2 && !memcmp(text, "cd", 2));
    EXPECT(setsockopt(peeked[1], SOL_SOCKET, SO_PEEK_OFF, &(int){2}, sizeof(int)) == 0);
    struct pollfd look = {.fd = listener, .events = POLLIN};
    EXPECT(poll(&look, 1, 0) == 1);
    EXPECT(option(stranger[1], SOL_SOCKET, SO_PASSCRED) == 1 && recv(stranger[1], text, 3, MSG_PEEK) == 3);
    EXPECT(option(asked, SOL_SOCKET, SO_TYPE) == SOCK_STREAM);
    return NULL;
}

static const char *check_kernel(void)
{
    char text[32] = {0};
    unsigned priority = 0;
    struct mq_attr shape;
    EXPECT(mq_getattr(queue, &shape) == 0 && shape.mq_curmsgs == 2 && shape.mq_flags == O_NONBLOCK);
    EXPECT(mq_receive(queue, text, sizeof text, &priority) == 4 && priority == 9 &&
           mq_send(queue, "high", 4, 9) == 0);
    struct sockaddr_nl groups;
    socklen_t length = sizeof groups;
    EXPECT(getsockname(routes, (struct sockaddr *)&groups, &length) == 0 && groups.nl_groups == RTMGRP_LINK);
    int bytes = 0;
    EXPECT(ioctl(packets[0], FIONREAD, &bytes) == 0 && bytes == 8 &&
           fcntl(packets[0], F_GETPIPE_SZ) == 1 << 17);
    EXPECT(fcntl(packets[1], F_GETFL) & O_DIRECT);
    EXPECT(read(packets[0], text, 2) == 2); /* the rest of a packet is thrown away */
    EXPECT(ioctl(packets[0], FIONREAD, &bytes) == 0 && bytes == 5);
    EXPECT(read(packets[0], text, sizeof text) == 5 && !memcmp(text, "three", 5));
    EXPECT(write(packets[1], "one", 3) == 3 && write(packets[1], "three", 5) == 5);
    struct termios mode;
    EXPECT(tcgetattr(slave, &mode) == 0 && !(mode.c_lflag & ECHO));
    struct pollfd typed = {.fd = slave, .events = POLLIN};
    EXPECT(poll(&typed, 1, 10000) == 1); /* the kernel hands it on in its own time */
    EXPECT(ioctl(slave, FIONREAD, &bytes) == 0 && bytes == 5);
    return NULL;
}

static const char *check_files(void)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
    int other = open("ofd", O_RDWR);
    EXPECT(fcntl(other, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_start == 3 &&
           lock.l_len == 4);
    close(other);
    EXPECT(fcntl(leased, F_GETLEASE) == F_RDLCK && fcntl(leased, F_GETSIG) == SIGRTMIN + 3);
    EXPECT(fcntl(leased, F_GETOWN) == getpid());
    EXPECT((fcntl(direct, F_GETFL) & O_NOATIME) && lseek(direct, 0, SEEK_CUR) == 4096);
    int bytes = 0;
    EXPECT(ioctl(notify, FIONREAD, &bytes) == 0 && bytes > 0);
    EXPECT(lseek(folder, 0, SEEK_CUR) == 0);
    EXPECT(fcntl(owned, F_GETOWN) == -getpgrp());
    return NULL;
}

static const char *check_itself(void)
{
    char text[4096] = {0}, pid[32], path[64], facts[512] = {0};
    uint32_t word = 0;
    STATE uint32_t known = 0x600df00d;
    EXPECT(pread(itself, text, sizeof text - 1, 0) > 0);
    snprintf(pid, sizeof pid, "\nPid:\t%d\n", (int)getpid());
    EXPECT(strstr(text, pid) != NULL);
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", process);
    int info = open(path, O_RDONLY);
    EXPECT(info >= 0 && read(info, facts, sizeof facts - 1) > 0 && close(info) == 0 &&
           strstr(facts, pid) != NULL);
    EXPECT(pread(memory, &word, sizeof word, (off_t)(uintptr_t)&known) == sizeof word && word == known);
    return NULL;
}

const char *check(void)
{
    const char *complaint = check_streams();
    complaint = complaint ? complaint : check_kernel();
    complaint = complaint ? complaint : check_files();
    return complaint ? complaint : check_itself();
}
