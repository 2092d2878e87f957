/* Descriptors of processes in bulk: what they are, duplicates of them, what an epoll set holds. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* One descriptor of a process; mirrored by instar.control.observation. */
struct instar_descriptor {
    uint64_t device; /* as stat(2) says */
    uint64_t inode;
    int32_t number;
    int32_t own;    /* our duplicate, or -1 */
    uint32_t mode;  /* file type and permissions; type 0: an anonymous inode */
    uint32_t flags; /* status flags and O_CLOEXEC; all ones: not read */
};

enum { SYSCALL_PIDFD_GETFD = 438, FDINFO_HEAD = 256 };

/* One "tfd:" line of /proc/PID/fdinfo/N (fs/eventpoll.c, ep_show_fdinfo). */
struct instar_epoll_entry {
    int32_t descriptor;
    uint32_t events;
    uint64_t data;
    uint64_t inode;
    uint64_t device; /* as the kernel counts: 20 bits minor */
};

int64_t instar_descriptors_duplicate(int32_t pidfd, int32_t limit, struct instar_descriptor *found,
                                     int64_t room);
int64_t instar_descriptors_describe(struct instar_descriptor *rows, int64_t count);
int64_t instar_descriptors_observe(int32_t pid, struct instar_descriptor *rows, int64_t count);
int64_t instar_descriptors_compare(int32_t pid, const int32_t *numbers, int32_t other,
                                   const int32_t *other_numbers, int64_t count, uint8_t *same);
int64_t instar_descriptors_owners(const int32_t *descriptors, int64_t count, int32_t *owners);
int64_t instar_epoll_parse(const char *text, int64_t size, struct instar_epoll_entry *entries, int64_t room);

static int describe(int descriptor, struct instar_descriptor *row)
{
    struct stat status;
    if (fstat(descriptor, &status) < 0)
        return -errno;
    row->device = status.st_dev;
    row->inode = status.st_ino;
    row->mode = status.st_mode;
    return 0;
}

/* Duplicates every descriptor below `limit` of the process behind a pidfd into this one. Returns how many, ascending
 * by number; on an error -errno, with nothing left open. */
int64_t instar_descriptors_duplicate(int32_t pidfd, int32_t limit, struct instar_descriptor *found,
                                     int64_t room)
{
    int64_t count = 0;
    int error = 0;
    for (int32_t number = 0; number < limit && !error; number++) {
        long own = syscall(SYSCALL_PIDFD_GETFD, pidfd, number, 0);
        if (own < 0) {
            error = errno == EBADF ? 0 : -errno;
            continue;
        }
        struct instar_descriptor row = {.number = number, .own = (int32_t)own, .flags = UINT32_MAX};
        error = count < room ? describe((int)own, &row) : -ENOSPC;
        if (error)
            close((int)own);
        else
            found[count++] = row;
    }
    for (int64_t i = 0; error && i < count; i++)
        close(found[i].own);
    return error ? error : count;
}

/* Fills in device, inode and mode of duplicates that somebody else has made for us. Returns 0 or -errno. */
int64_t instar_descriptors_describe(struct instar_descriptor *rows, int64_t count)
{
    int error = 0;
    for (int64_t i = 0; i < count && !error; i++)
        error = describe(rows[i].own, &rows[i]);
    return error;
}

/* The "flags:" line of fdinfo, octal. */
static uint32_t read_flags(int directory, const char *name)
{
    char text[FDINFO_HEAD];
    int file = openat(directory, name, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return UINT32_MAX;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    for (ssize_t i = 0; i + 6 < length; i++) {
        if (text[i] != '\n' || text[i + 1] != 'f' || text[i + 2] != 'l' || text[i + 6] != ':')
            continue;
        uint32_t flags = 0;
        for (i += 7; i < length && (text[i] == '\t' || text[i] == ' '); i++)
            ;
        for (; i < length && text[i] >= '0' && text[i] <= '7'; i++)
            flags = flags * 8 + (uint32_t)(text[i] - '0');
        return flags;
    }
    return UINT32_MAX;
}

/* Fills in flags, and where there is no duplicate also device, inode and mode, of the numbered descriptors of a
 * process. A row whose descriptor is closed gets mode 0 and inode 0. Returns 0 or -errno. */
int64_t instar_descriptors_observe(int32_t pid, struct instar_descriptor *rows, int64_t count)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fdinfo", pid);
    int infos = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(path, sizeof path, "/proc/%d/fd", pid);
    int files = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    int64_t result = infos < 0 || files < 0 ? -errno : 0;
    for (int64_t i = 0; i < count && !result; i++) {
        snprintf(path, sizeof path, "%d", rows[i].number);
        struct stat status = {0};
        rows[i].flags = read_flags(infos, path);
        if (rows[i].own < 0) {
            fstatat(files, path, &status, 0); /* stays zero if it fails: closed meanwhile */
            rows[i].device = status.st_dev;
            rows[i].inode = status.st_ino;
            rows[i].mode = status.st_mode;
        }
    }
    if (infos >= 0)
        close(infos);
    if (files >= 0)
        close(files);
    return result;
}

/* Whom the kernel signals for each of our own descriptors (F_SETOWN): a process, minus a process group, or 0. */
int64_t instar_descriptors_owners(const int32_t *descriptors, int64_t count, int32_t *owners)
{
    for (int64_t i = 0; i < count; i++) {
        struct f_owner_ex owner;
        owners[i] = 0;
        if (descriptors[i] >= 0 && fcntl(descriptors[i], F_GETOWN_EX, &owner) == 0)
            owners[i] = owner.type == F_OWNER_PGRP ? -owner.pid : owner.pid;
    }
    return 0;
}

/* same[i] = 1 where both descriptors share one open file description (kcmp(2)), 0 where not or where one is closed.
 * Returns 0, or -errno if the question cannot be asked at all. */
int64_t instar_descriptors_compare(int32_t pid, const int32_t *numbers, int32_t other,
                                   const int32_t *other_numbers, int64_t count, uint8_t *same)
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
