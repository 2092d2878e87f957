/* FILE objects of the past in the future's own libc. What has no public function is done on the fields of struct
 * _IO_FILE, whose layout glibc keeps for binary compatibility (bits/types/struct_FILE.h); nothing here may read or
 * write a descriptor, which the past still uses. */
#include "runtime.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <wchar.h>

/* libio.h of glibc, the private part. */
enum {
    MAGIC = (int)0xfbad0000,
    MAGIC_MASK = (int)0xffff0000,
    USER_BUFFER = 0x1,
    UNBUFFERED = 0x2,
    NO_READS = 0x4,
    NO_WRITES = 0x8,
    END_SEEN = 0x10,
    ERROR_SEEN = 0x20,
    IN_BACKUP = 0x100,
    LINE_BUFFERED = 0x200,
    PUTTING = 0x800,
    APPENDING = 0x1000,
    USER_LOCK = 0x8000,
    CARRIED = UNBUFFERED | NO_READS | NO_WRITES | END_SEEN | ERROR_SEEN | LINE_BUFFERED | APPENDING |
        USER_LOCK,
};

static const char *mode_of(uint32_t flags)
{
    if (flags & NO_WRITES)
        return "r";
    if (flags & NO_READS)
        return flags & APPENDING ? "a" : "w";
    return flags & APPENDING ? "a+" : "r+";
}

/* fdopen asks the kernel about the descriptor, which comes later: a memory file stands in for it. */
static int open_stream(struct instar_stream *stream)
{
    int stand_in = memfd_create("stream", MFD_CLOEXEC);
    FILE *file = stand_in < 0 ? NULL : fdopen(stand_in, mode_of(stream->flags));
    int error = errno;
    if (stand_in >= 0)
        close(stand_in);
    if (!file)
        return -error;
    file->_fileno = stream->number;
    stream->file = (uint64_t)file;
    return 0;
}

EXPORT int64_t instar_runtime_streams_open(struct instar_stream *streams, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        int error = streams[i].file ? 0 : open_stream(&streams[i]);
        if (error)
            return error;
    }
    return 0;
}

EXPORT int64_t instar_runtime_streams_discard(const uint64_t *files, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        FILE *file = (FILE *)files[i];
        file->_fileno = -1; /* fclose closes nothing, fails, and frees all the same */
        fclose(file);
    }
    return 0;
}

static size_t distance(const char *from, const char *to)
{
    return to > from ? (size_t)(to - from) : 0;
}

static void release_buffer(FILE *file)
{
    if (file->_IO_buf_base && !(file->_flags & USER_BUFFER))
        free(file->_IO_buf_base);
    file->_flags &= ~USER_BUFFER;
}

/* A buffer of that many bytes; the one it has if it is large enough. */
static int make_buffer(FILE *file, size_t size)
{
    if (distance(file->_IO_buf_base, file->_IO_buf_end) < size) {
        char *buffer = malloc(size);
        if (!buffer)
            return -ENOMEM;
        release_buffer(file);
        file->_IO_buf_base = buffer;
    }
    file->_IO_buf_end = file->_IO_buf_base + size;
    return 0;
}

/* What setvbuf(_IONBF) does: the buffer is one byte inside the struct. */
static void make_unbuffered(FILE *file)
{
    release_buffer(file);
    file->_flags |= USER_BUFFER;
    file->_IO_buf_base = file->_shortbuf;
    file->_IO_buf_end = file->_shortbuf + 1;
}

static void rewind_pointers(FILE *file)
{
    char *base = file->_IO_buf_base;
    file->_IO_read_base = file->_IO_read_ptr = file->_IO_read_end = base;
    file->_IO_write_base = file->_IO_write_ptr = file->_IO_write_end = base;
    file->_flags &= ~PUTTING;
}

/* The past's bytes go in front of what the future's own start-up has still in its buffer. */
static int fill_output(FILE *file, const struct instar_stream *stream)
{
    size_t own = file->_flags & PUTTING ? distance(file->_IO_write_base, file->_IO_write_ptr) : 0;
    size_t total = stream->data_size + own;
    char *kept = own ? malloc(own) : NULL;
    if (own && !kept)
        return -ENOMEM;
    if (own)
        memcpy(kept, file->_IO_write_base, own);
    int error = 0;
    if (total || stream->buffer_size)
        error = make_buffer(file, total > stream->buffer_size ? total : stream->buffer_size);
    if (!error) {
        rewind_pointers(file);
        if (stream->data_size)
            memcpy(file->_IO_buf_base, (const void *)stream->data, stream->data_size);
        if (own)
            memcpy(file->_IO_buf_base + stream->data_size, kept, own);
        file->_IO_write_ptr = file->_IO_write_base + total;
        int eager = stream->flags & (LINE_BUFFERED | UNBUFFERED);
        file->_IO_write_end = eager ? file->_IO_write_ptr : file->_IO_buf_end;
        file->_flags |= PUTTING;
    }
    free(kept);
    return error;
}

static int fill_input(FILE *file, const struct instar_stream *stream)
{
    if (file->_flags & PUTTING && file->_IO_write_ptr > file->_IO_write_base)
        return -EBUSY; /* the start-up's output would be lost */
    size_t size = stream->data_size > stream->buffer_size ? stream->data_size : stream->buffer_size;
    int error = size ? make_buffer(file, size) : 0;
    if (error)
        return error;
    rewind_pointers(file);
    if (stream->data_size)
        memcpy(file->_IO_buf_base, (const void *)stream->data, stream->data_size);
    file->_IO_read_ptr = file->_IO_read_base + stream->position;
    file->_IO_read_end = file->_IO_read_base + stream->data_size;
    return 0;
}

/* The past's stream has nothing in its buffer. Output of the future's own start-up stays where it is. */
static int fill_nothing(FILE *file, const struct instar_stream *stream)
{
    if (file->_flags & PUTTING && file->_IO_write_ptr > file->_IO_write_base)
        return fill_output(file, stream);
    rewind_pointers(file);
    if (stream->flags & UNBUFFERED)
        make_unbuffered(file);
    else if (stream->buffer_size) {
        int error = make_buffer(file, stream->buffer_size);
        if (error)
            return error;
    }
    rewind_pointers(file);
    return 0;
}

static int push_back(FILE *file, const struct instar_stream *stream)
{
    const unsigned char *bytes = (const unsigned char *)stream->pushed;
    for (uint64_t i = stream->pushed_size; i > 0; i--)
        if (ungetc(bytes[i - 1], file) == EOF)
            return -ENOMEM;
    return 0;
}

static int restore_stream(const struct instar_stream *stream)
{
    FILE *file = (FILE *)stream->file;
    if ((file->_flags & MAGIC_MASK) != MAGIC)
        return -EINVAL;
    if (file->_flags & IN_BACKUP)
        return -EBUSY; /* the start-up has pushed something back */
    int error;
    if (stream->state == INSTAR_STREAM_WRITING && (stream->data_size || !(stream->flags & UNBUFFERED)))
        error = fill_output(file, stream);
    else if (stream->state == INSTAR_STREAM_READING)
        error = fill_input(file, stream);
    else
        error = fill_nothing(file, stream);
    if (error)
        return error;
    file->_fileno = stream->number;
    file->_offset = stream->offset;
    file->_cur_column = (unsigned short)stream->column;
    if (stream->orientation)
        fwide(file, stream->orientation);
    file->_flags = (file->_flags & ~CARRIED) | (int)(stream->flags & CARRIED);
    error = push_back(file, stream);
    file->_flags = (file->_flags & ~CARRIED) | (int)(stream->flags & CARRIED); /* ungetc forgets the end */
    return error;
}

EXPORT int64_t instar_runtime_streams_restore(struct instar_stream *streams, uint64_t count)
{
    int64_t failed = 0;
    for (uint64_t i = 0; i < count; i++) {
        streams[i].result = restore_stream(&streams[i]);
        failed += streams[i].result < 0;
    }
    return failed;
}
