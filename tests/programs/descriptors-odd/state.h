#include "scenario.h"
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>

STATE int self[2], passing[2], datagrams, counter, sealed, unnamed, gone, locked, fired, inner, outer,
    appended;

static void must(int good)
{
    if (!good)
        abort();
}

/* A descriptor that is on its way through a socket, held by nobody else. */
static void send_descriptor(int channel, int descriptor)
{
    char byte = 'd', room[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &descriptor, sizeof(int));
    must(sendmsg(channel, &message, 0) == 1);
    close(descriptor);
}

static void watch(int set, int descriptor, unsigned events)
{
    struct epoll_event event = {.events = events, .data.fd = descriptor};
    must(epoll_ctl(set, EPOLL_CTL_ADD, descriptor, &event) == 0);
}

static void fill_sockets(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    datagrams = socket(AF_INET, SOCK_DGRAM, 0);
    must(bind(datagrams, (struct sockaddr *)&address, sizeof address) == 0);
    must(getsockname(datagrams, (struct sockaddr *)&address, &length) == 0);
    must(sendto(datagrams, "one", 3, 0, (struct sockaddr *)&address, length) == 3);
    must(sendto(datagrams, "two!", 4, 0, (struct sockaddr *)&address, length) == 4);
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, passing) == 0);
    send_descriptor(passing[0], memfd_create("passed", 0));
}

static void fill_files(void)
{
    sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
    must(write(sealed, "memory", 6) == 6);
    must(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0);
    unnamed = open(".", O_TMPFILE | O_RDWR, 0600);
    must(unnamed >= 0 && write(unnamed, "unnamed", 7) == 7);
    gone = open("gone", O_CREAT | O_RDWR, 0600);
    must(write(gone, "gone", 4) == 4 && unlink("gone") == 0);
    locked = open("locked", O_CREAT | O_RDWR, 0600);
    must(flock(locked, LOCK_EX) == 0);
    appended = open("appended", O_CREAT | O_WRONLY | O_APPEND, 0600);
    must(write(appended, "line\n", 5) == 5);
}

static void fill_sets(void)
{
    struct epoll_event event;
    must(pipe(self) == 0 && write(self[1], "wake", 4) == 4);
    counter = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
    fired = epoll_create1(0);
    watch(fired, self[0], EPOLLIN | EPOLLONESHOT);
    must(epoll_wait(fired, &event, 1, 0) == 1); /* from now on disarmed */
    inner = epoll_create1(0);
    watch(inner, self[0], EPOLLIN);
    outer = epoll_create1(0);
    watch(outer, inner, EPOLLIN);
}

void fill(void)
{
    fill_sockets();
    fill_files();
    fill_sets();
}

static const char *check_passed(void)
{
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    EXPECT(recvmsg(passing[1], &message, MSG_PEEK) == 1 && byte == 'd');
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    EXPECT(head && head->cmsg_type == SCM_RIGHTS);
    int descriptor;
    memcpy(&descriptor, CMSG_DATA(head), sizeof descriptor);
    struct stat facts;
    EXPECT(fstat(descriptor, &facts) == 0 && S_ISREG(facts.st_mode));
    close(descriptor);
    return NULL;
}

static const char *check_files(void)
{
    char text[8] = {0};
    EXPECT(pread(sealed, text, 6, 0) == 6 && !memcmp(text, "memory", 6) && lseek(sealed, 0, SEEK_CUR) == 6);
    EXPECT(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW));
    EXPECT(pread(unnamed, text, 7, 0) == 7 && !memcmp(text, "unnamed", 7) &&
           lseek(unnamed, 0, SEEK_CUR) == 7);
    EXPECT(pread(gone, text, 4, 0) == 4 && !memcmp(text, "gone", 4));
    EXPECT((fcntl(appended, F_GETFL) & O_APPEND) && lseek(appended, 0, SEEK_CUR) == 5);
    int other = open("locked", O_RDWR);
    EXPECT(flock(other, LOCK_EX | LOCK_NB) < 0);
    close(other);
    return NULL;
}

const char *check(void)
{
    struct epoll_event event;
    char text[8];
    int waiting = 0;
    EXPECT(recv(datagrams, text, sizeof text, MSG_PEEK) == 3 && !memcmp(text, "one", 3));
    EXPECT(ioctl(self[0], FIONREAD, &waiting) == 0 && waiting == 4);
    EXPECT(epoll_wait(fired, &event, 1, 0) == 0);
    EXPECT(epoll_wait(outer, &event, 1, 0) == 1 && event.data.fd == inner);
    EXPECT(epoll_wait(inner, &event, 1, 0) == 1 && event.data.fd == self[0]);
    uint64_t one = 0;
    EXPECT(read(counter, &one, 8) == 8 && one == 1); /* three at first; one is taken and put back */
    EXPECT(write(counter, &one, 8) == 8);
    const char *complaint = check_passed();
    return complaint ? complaint : check_files();
}
