/* Descriptors of processes in bulk: are two of them the same open file, and what does an epoll set hold. */
#include <errno.h>
#include <stdint.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One "tfd:" line of /proc/PID/fdinfo/N (fs/eventpoll.c, ep_show_fdinfo). */
struct instar_epoll_entry {
    int32_t descriptor;
    uint32_t events;
    uint64_t data;
    uint64_t inode;
    uint64_t device; /* as the kernel counts: 20 bits minor */
};

int64_t instar_descriptors_compare(int32_t pid, const int32_t *numbers, int32_t other, const int32_t *other_numbers,
                                   int64_t count, uint8_t *same);
int64_t instar_epoll_parse(const char *text, int64_t size, struct instar_epoll_entry *entries, int64_t room);

/* same[i] = 1 where both descriptors share one open file description (kcmp(2)), 0 where not or where one is closed.
 * Returns 0, or -errno if the question cannot be asked at all. */
int64_t instar_descriptors_compare(int32_t pid, const int32_t *numbers, int32_t other, const int32_t *other_numbers,
                                   int64_t count, uint8_t *same)
{
    for (int64_t i = 0; i < count; i++) {
        long result = syscall(SYS_kcmp, pid, other, 0 /* KCMP_FILE */, numbers[i], other_numbers[i]);
        if (result < 0 && errno != EBADF)
            return -errno;
        same[i] = result == 0;
    }
    return 0;
}

static const char *skip_blanks(const char *at, const char *end)
{
    while (at < end && *at == ' ')
        at++;
    return at;
}

static const char *read_number(const char *at, const char *end, unsigned base, uint64_t *value)
{
    *value = 0;
    for (at = skip_blanks(at, end); at < end; at++) {
        unsigned digit = 16;
        if (*at >= '0' && *at <= '9')
            digit = (unsigned)(*at - '0');
        else if (*at >= 'a' && *at <= 'f')
            digit = (unsigned)(*at - 'a' + 10);
        if (digit >= base)
            break;
        *value = *value * base + digit;
    }
    return at;
}

/* Past "NAME:" if it is next, else NULL. */
static const char *read_name(const char *at, const char *end, const char *name)
{
    for (at = skip_blanks(at, end); *name; at++, name++)
        if (at >= end || *at != *name)
            return NULL;
    return at;
}

static int read_entry(const char *at, const char *end, struct instar_epoll_entry *entry)
{
    uint64_t descriptor, events, ignored;
    if (!(at = read_name(at, end, "tfd:")))
        return 0;
    at = read_number(at, end, 10, &descriptor);
    if (!(at = read_name(at, end, "events:")))
        return 0;
    at = read_number(at, end, 16, &events);
    if (!(at = read_name(at, end, "data:")))
        return 0;
    at = read_number(at, end, 16, &entry->data);
    entry->descriptor = (int32_t)descriptor;
    entry->events = (uint32_t)events;
    entry->inode = entry->device = 0;
    if ((at = read_name(at, end, "pos:"))) {
        at = read_number(at, end, 10, &ignored);
        if ((at = read_name(at, end, "ino:")))
            at = read_number(at, end, 16, &entry->inode);
        if (at && (at = read_name(at, end, "sdev:")))
            read_number(at, end, 16, &entry->device);
    }
    return 1;
}

/* Returns how many entries the text has; at most `room` are stored. */
int64_t instar_epoll_parse(const char *text, int64_t size, struct instar_epoll_entry *entries, int64_t room)
{
    const char *end = text + size;
    int64_t count = 0;
    while (text < end) {
        const char *line_end = text;
        while (line_end < end && *line_end != '\n')
            line_end++;
        struct instar_epoll_entry entry;
        if (read_entry(text, line_end, &entry)) {
            if (count < room)
                entries[count] = entry;
            count++;
        }
        text = line_end + 1;
    }
    return count;
}
