/* Descriptors of the past arrive over a socket pair whose other end the tool takes with pidfd_getfd: nothing that the
 * future needs a right for. Everything here runs while the future is parked. */
#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

/* Moves a descriptor up to a number >= floor, out of the way of the program's numbers. */
static int lift(int descriptor, int floor)
{
    int lifted = fcntl(descriptor, F_DUPFD_CLOEXEC, floor);
    int error = errno;
    close(descriptor);
    return lifted < 0 ? -error : lifted;
}

EXPORT int64_t instar_runtime_channel(uint64_t floor)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return -errno;
    int own = lift(ends[0], (int)floor), other = lift(ends[1], (int)floor);
    if (own < 0 || other < 0) {
        if (own >= 0)
            close(own);
        if (other >= 0)
            close(other);
        return own < 0 ? own : other;
    }
    if (instar_runtime_state.channel >= 0)
        close(instar_runtime_state.channel);
    instar_runtime_state.channel = own;
    return other;
}

/* One message; the descriptors land on whatever numbers are free. Returns how many, or -errno. */
static int receive_message(int *received, bool cloexec)
{
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(INSTAR_IMPORT_BATCH * sizeof(int))];
    } control;
    char byte;
    struct iovec data = {&byte, 1};
    struct msghdr message = {
        .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;
    do
        got =
            recvmsg(instar_runtime_state.channel, &message, MSG_DONTWAIT | (cloexec ? MSG_CMSG_CLOEXEC : 0));
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return -errno;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_type != SCM_RIGHTS)
        return -EPROTO;
    int count = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(received, CMSG_DATA(head), (size_t)count * sizeof(int));
    if (message.msg_flags & MSG_CTRUNC) { /* the limit of open files was hit */
        for (int i = 0; i < count; i++)
            close(received[i]);
        return -EMFILE;
    }
    return count;
}

static bool is_open(int descriptor)
{
    return fcntl(descriptor, F_GETFD) >= 0;
}

static bool is_wanted(const uint64_t *wanted, int64_t limit, int descriptor)
{
    return descriptor < limit && (wanted[descriptor / 64] >> (descriptor % 64) & 1);
}

/* Puts one received descriptor under its number. It never lies on another's wanted number here. */
static int settle(int received, int number, uint32_t flags, bool cloexec)
{
    if (received != number) {
        if (!(flags & INSTAR_IMPORT_REPLACE) && is_open(number)) {
            close(received);
            return -EEXIST;
        }
        int moved = dup3(received, number, flags & INSTAR_IMPORT_CLOEXEC ? O_CLOEXEC : 0);
        int error = errno;
        close(received);
        return moved < 0 ? -error : 0;
    }
    bool wanted = flags & INSTAR_IMPORT_CLOEXEC;
    if (wanted != cloexec && fcntl(number, F_SETFD, wanted ? FD_CLOEXEC : 0) < 0)
        return -errno;
    return 0;
}

/* A received number that is wanted for another descriptor is lifted above all wanted ones before anything is put in
 * place, so no dup3 can hit a descriptor that is still to be placed. In the usual case (numbers sorted, the future has
 * none of them) the kernel hands out exactly the wanted numbers and nothing moves. */
static int place_batch(int *received, int count, const int32_t *numbers, const uint32_t *flags,
                       const uint64_t *wanted, int64_t limit, bool cloexec)
{
    int error = 0;
    for (int i = 0; i < count; i++) {
        if (received[i] != numbers[i] && is_wanted(wanted, limit, received[i]))
            received[i] = lift(received[i], (int)limit);
        if (received[i] < 0)
            error = received[i];
    }
    for (int i = 0; i < count; i++) {
        if (received[i] < 0)
            continue;
        int result = error ? close(received[i]) : settle(received[i], numbers[i], flags[i], cloexec);
        if (result < 0 && !error)
            error = result;
    }
    return error;
}

static int64_t import_all(const int32_t *numbers, const uint32_t *flags, uint64_t count,
                          const uint64_t *wanted, int64_t limit)
{
    uint64_t done = 0;
    while (done < count) {
        int received[INSTAR_IMPORT_BATCH];
        bool cloexec =
            flags[done] & INSTAR_IMPORT_CLOEXEC; /* most have the same: nobody can exec meanwhile */
        int got = receive_message(received, cloexec);
        if (got < 0)
            return got;
        if ((uint64_t)got > count - done) {
            for (int i = 0; i < got; i++)
                close(received[i]);
            return -EPROTO;
        }
        int error = place_batch(received, got, numbers + done, flags + done, wanted, limit, cloexec);
        if (error)
            return error;
        done += (uint64_t)got;
    }
    return (int64_t)done;
}

EXPORT int64_t instar_runtime_import(const int32_t *numbers, const uint32_t *flags, uint64_t count)
{
    int64_t limit = 0;
    for (uint64_t i = 0; i < count; i++) {
        if (numbers[i] < 0 || numbers[i] == instar_runtime_state.channel)
            return -EINVAL;
        if (numbers[i] >= limit)
            limit = (int64_t)numbers[i] + 1;
    }
    uint64_t size = (uint64_t)limit / 8 + 8;
    int failure = 0;
    uint64_t *wanted = runtime_map_anywhere(size, &failure);
    if (!wanted)
        return -failure;
    for (uint64_t i = 0; i < count; i++)
        wanted[numbers[i] / 64] |= UINT64_C(1) << (numbers[i] % 64);
    int64_t result = import_all(numbers, flags, count, wanted, limit);
    munmap(wanted, size);
    return result;
}

EXPORT int64_t instar_runtime_close(const int32_t *numbers, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (close(numbers[i]) < 0 && errno == EBADF)
            return -EBADF;
    return 0;
}

/* ---- epoll ------------------------------------------------------------------------------------------------ */

static int run_control(const struct instar_epoll_item *item)
{
    struct epoll_event event = {.events = item->events, .data = {.u64 = item->data}};
    return epoll_ctl(item->epoll, item->operation, item->descriptor, &event) < 0 ? -errno : 0;
}

/* A one-shot registration that has fired is silent, which no epoll_ctl can say: hang-ups are always listened for. So
 * it is added with an event that is true now, and made to fire. The set is new: if anything else were in it and ready,
 * it could be taken for ours, so the caller adds these first, and a stranger is told apart by its data and refused. */
static int run_fired(const struct instar_epoll_item *item)
{
    struct instar_epoll_item armed = *item;
    armed.events |= EPOLLONESHOT | EPOLLIN | EPOLLOUT | EPOLLPRI;
    int result = run_control(&armed);
    if (result < 0)
        return result;
    struct epoll_event event;
    int fired = epoll_wait(item->epoll, &event, 1, 0);
    if (fired == 1 && event.data.u64 == item->data)
        return 0;
    epoll_ctl(item->epoll, EPOLL_CTL_DEL, item->descriptor, NULL);
    return fired < 0 ? -errno : -EAGAIN; /* EAGAIN: not ready for anything, so it cannot be made silent */
}

/* Registers the file of `source` under the number `descriptor`, which may be free or in use. */
static int run_borrowed(const struct instar_epoll_item *item)
{
    int kept = fcntl(item->descriptor, F_DUPFD_CLOEXEC, 0);
    int kept_flags = kept < 0 ? 0 : fcntl(item->descriptor, F_GETFD);
    if (dup2(item->source, item->descriptor) < 0) {
        int error = errno;
        if (kept >= 0)
            close(kept);
        return -error;
    }
    int result = item->flags & INSTAR_EPOLL_FIRE ? run_fired(item) : run_control(item);
    if (kept < 0) {
        close(item->descriptor);
        return result;
    }
    dup3(kept, item->descriptor, kept_flags & FD_CLOEXEC ? O_CLOEXEC : 0);
    close(kept);
    return result;
}

EXPORT int64_t instar_runtime_epoll(struct instar_epoll_item *items, uint64_t count)
{
    int64_t failed = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct instar_epoll_item *item = &items[i];
        if (item->source >= 0)
            item->result = run_borrowed(item);
        else
            item->result = item->flags & INSTAR_EPOLL_FIRE ? run_fired(item) : run_control(item);
        failed += item->result < 0;
    }
    return failed;
}
