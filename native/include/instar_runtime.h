/* What libinstar-runtime.so shows to the tool: layouts that Python mirrors (src/instar/control/runtime.py and
 * src/instar/heap/inherited.py; tests/binary/test_runtime_blocks.py compares them) and the calls that the tool makes
 * inside a parked future.
 *
 * All addresses are u64 in the future's address space. A call returns >= 0, or -errno. Calls that take requests are
 * made only while every thread of the process is parked; the interposed allocator functions are safe at any time.
 */
#ifndef INSTAR_RUNTIME_H
#define INSTAR_RUNTIME_H

#include <stdint.h>

#define INSTAR_RUNTIME_MAGIC UINT64_C(0x656d69746e725249) /* "IRrntime" in memory */
#define INSTAR_RUNTIME_VERSION 1u
#define INSTAR_PAGE_SHIFT 12

/* ---- inherited memory ------------------------------------------------------------------------------------- */

enum instar_range_state {
    INSTAR_RANGE_EMPTY = 0, /* mapped, its blocks are not set yet: no pointer into it may be freed */
    INSTAR_RANGE_LIVE = 1,
    INSTAR_RANGE_GONE = 2, /* its last block was freed; unmapped, the addresses may belong to anybody */
};

/* One inherited block: offset in the range in granules (1 << granule_shift bytes), usable size in bytes. */
struct instar_block {
    uint32_t granule;
    uint32_t size;
};

/* The same for ranges over 64 GiB and for blocks of 4 GiB and more. */
struct instar_wide_block {
    uint64_t offset;
    uint64_t size;
};

/* A range of addresses that the past's allocator owned. The blocks are sorted by offset and do not overlap. */
struct instar_range {
    uint64_t start;
    uint64_t end;
    uint64_t blocks;      /* struct instar_block[block_count], or instar_wide_block if wide */
    uint64_t live_bits;   /* u64[(block_count + 63) / 64], bit set: the block is allocated */
    uint64_t first;       /* u32[pages + 1]: index of the first block that starts in this page or later */
    uint64_t page_counts; /* u16[pages]: live blocks whose first or last byte is in the page */
    uint64_t table;       /* struct instar_table that holds the four arrays */
    uint64_t block_count;
    uint64_t live_count;
    uint32_t granule_shift;
    uint32_t wide;
    uint32_t state;
    uint32_t reserved;
};

/* The part of a range that the lookup reads; empty (end == start) when the range is gone. */
struct instar_span {
    uint64_t start;
    uint64_t end;
};

/* Head of one mapping with the tables of some ranges; unmapped with the last of them. */
struct instar_table {
    uint64_t size;
    uint64_t ranges;
};

enum instar_range_flags {
    INSTAR_RANGE_WIDE = 1,
    INSTAR_RANGE_PLAIN = 2, /* only map it: memory that the program mapped itself, never seen by free */
};

/* In and out for the calls on ranges, one element per range. */
struct instar_range_request {
    uint64_t start;
    uint64_t size;
    uint64_t block_count;
    uint64_t blocks; /* out of instar_runtime_reserve_blocks: where the tool writes the blocks */
    uint32_t protection;
    uint32_t granule_shift;
    uint32_t flags;
    int32_t result; /* 0 or -errno of this element */
};

/* ---- descriptors ------------------------------------------------------------------------------------------ */

enum instar_import_flags {
    INSTAR_IMPORT_CLOEXEC = 1,
    INSTAR_IMPORT_REPLACE = 2, /* the number is open in the future and is to be replaced */
};

enum instar_import_limits { INSTAR_IMPORT_BATCH = 253 }; /* SCM_MAX_FD */

/* One epoll_ctl. With source >= 0 the file of that descriptor is registered under the number `descriptor`, which is
 * borrowed for the moment (a registration that outlived its number). INSTAR_EPOLL_FIRE: a one-shot that has fired. */
struct instar_epoll_item {
    int32_t epoll;
    int32_t operation;
    int32_t descriptor;
    int32_t source;
    uint32_t events;
    int32_t result;
    uint64_t data;
    uint32_t flags;
    uint32_t reserved;
};

enum instar_epoll_flags { INSTAR_EPOLL_FIRE = 1 };

/* ---- streams (FILE) --------------------------------------------------------------------------------------- */

enum instar_stream_state { INSTAR_STREAM_IDLE = 0, INSTAR_STREAM_READING = 1, INSTAR_STREAM_WRITING = 2 };

/* A stream of the past. All addresses are in the future. */
struct instar_stream {
    uint64_t file; /* its counterpart; 0: instar_runtime_streams_open makes one and tells here */
    uint64_t
        data; /* writing: bytes not yet written; reading: the read-ahead, what was taken of it included */
    uint64_t data_size;
    uint64_t position; /* reading: how many bytes of data were taken */
    uint64_t pushed;   /* bytes that ungetc pushed back, in the order they will be read */
    uint64_t pushed_size;
    uint64_t buffer_size; /* 0: none was made yet */
    int64_t offset;       /* what the stream takes for the descriptor's offset, -1: unknown */
    uint32_t flags;       /* _flags of struct _IO_FILE */
    int32_t number;       /* descriptor */
    int32_t orientation;  /* _mode: 0 none yet, -1 bytes */
    uint32_t state;
    uint32_t column;
    int32_t result;
};

/* ---- the commit gate -------------------------------------------------------------------------------------- */

enum instar_gate_intent {
    INSTAR_INTENT_NONE = 0,
    INSTAR_INTENT_ENDING = 1, /* the tool is about to set the past's registers to exit_group(0) */
    INSTAR_INTENT_ENDED = 2,  /* it has done so: the past cannot serve again */
};

enum instar_gate_phase { INSTAR_GATE_CLOSED = 0, INSTAR_GATE_WAITING = 1, INSTAR_GATE_PASSED = 2 };

enum instar_gate_message {
    INSTAR_MESSAGE_WAITING = 'W', /* future to tool: the gate is reached */
    INSTAR_MESSAGE_SERVING = 'S', /* future to tool: the gate is passed */
    INSTAR_MESSAGE_GO = 'G',      /* tool to future: the past is in exit and runs no more code */
    INSTAR_MESSAGE_ABANDON = 'A', /* tool to future: exit at once */
    INSTAR_MESSAGE_PING = 'P',    /* tool to future: are you there? answered with WAITING */
    INSTAR_MESSAGE_SIGNAL = 'Q',  /* tool to future, struct instar_gate_signal: queue this to yourself */
    INSTAR_MESSAGE_LOST = 'L',    /* future to tool: the kernel did not take that signal */
};

/* A signal that came for the past, with everything that its sender said. Every message to the future has this form,
 * most are cut off after the first byte. */
struct instar_gate_signal {
    char message;
    char to_thread; /* for the thread, not the process */
    char reserved[6];
    uint8_t info[128]; /* siginfo_t */
};

enum {
    INSTAR_LOCK_OWNER = -1,       /* this process is signalled from now on */
    INSTAR_LOCK_OWNER_GROUP = -2, /* its process group is */
};

/* A record lock of the past, taken again when the past is gone; or whom a descriptor signals (fcntl F_SETOWN). */
struct instar_lock {
    int32_t descriptor;
    int16_t type; /* F_RDLCK, F_WRLCK, or one of the above */
    int16_t reserved;
    int64_t start;
    int64_t length;
};

struct instar_gate {
    uint64_t signal_mask; /* the mask with which the program goes on */
    uint64_t locks;       /* struct instar_lock[lock_count] */
    uint32_t lock_count;
    uint32_t grace_ms; /* how long the past may take to show that it exits when the tool died while ENDING */
    int32_t pidfd;     /* of the past */
    int32_t stat;      /* open file /proc/PAST/stat, or -1 */
    uint32_t intent;
    uint32_t phase;
};

/* ---- the whole -------------------------------------------------------------------------------------------- */

enum instar_runtime_flags {
    INSTAR_RUNTIME_INTERPOSED = 1, /* `free` of the program resolves to the runtime's */
};

struct instar_runtime_state {
    uint64_t magic;
    uint32_t version;
    uint32_t size;   /* of this struct */
    uint64_t ranges; /* struct instar_range[range_count], sorted by start */
    uint64_t spans;  /* struct instar_span[range_count], the same order */
    uint64_t range_count;
    uint64_t range_capacity;
    uint64_t live_ranges;
    uint64_t low; /* every span lies in low .. low + extent */
    uint64_t extent;
    uint64_t scratch; /* list of scratch mappings */
    uint32_t flags;
    int32_t channel; /* socket to the tool, or -1 */
    struct instar_gate gate;
};

extern struct instar_runtime_state instar_runtime_state;

/* Maps each request's range private, anonymous, exactly there, and enters it (unless PLAIN). A range that is entered
 * with the same start is grown or cut. All or nothing: -EEXIST if anything is in the way, `result` says where. */
int64_t instar_runtime_map_ranges(struct instar_range_request *requests, uint64_t count);
int64_t instar_runtime_unmap_ranges(struct instar_range_request *requests, uint64_t count);
/* Makes tables for block_count blocks each and tells in `blocks` where to write them. */
int64_t instar_runtime_reserve_blocks(struct instar_range_request *requests, uint64_t count);
/* Takes the written blocks as the live ones: validates, indexes. -EINVAL: unsorted, overlapping or outside. */
int64_t instar_runtime_set_blocks(struct instar_range_request *requests, uint64_t count);

/* Bulk malloc (alignments may be NULL; 0 and 16 mean malloc's own). Returns how many were allocated. */
int64_t instar_runtime_allocate(const uint64_t *sizes, const uint64_t *alignments, uint64_t *addresses,
                                uint64_t count);
int64_t instar_runtime_release(const uint64_t *addresses, uint64_t count);

/* Memory for arguments, unmapped when the gate is passed. Returns its address. */
int64_t instar_runtime_scratch(uint64_t size);

/* Makes the socket to the tool, both ends numbered >= floor; returns the number of the tool's end. */
int64_t instar_runtime_channel(uint64_t floor);
/* Receives `count` descriptors over the channel, in messages of INSTAR_IMPORT_BATCH, each under its number. */
int64_t instar_runtime_import(const int32_t *numbers, const uint32_t *flags, uint64_t count);
int64_t instar_runtime_close(const int32_t *numbers, uint64_t count);
/* Runs every item, in order; returns how many failed. */
int64_t instar_runtime_epoll(struct instar_epoll_item *items, uint64_t count);

/* Makes a stream for each element without one. Its descriptor need not be there yet. Returns 0 or -errno. */
int64_t instar_runtime_streams_open(struct instar_stream *streams, uint64_t count);
/* Puts the past's mode, buffering, position and buffer contents into the counterparts; nothing is read or written.
 * What the future's own start-up has not written yet stays, behind what the past has not. Returns how many failed. */
int64_t instar_runtime_streams_restore(struct instar_stream *streams, uint64_t count);
/* Frees streams that instar_runtime_streams_open made, leaving their descriptors alone. */
int64_t instar_runtime_streams_discard(const uint64_t *files, uint64_t count);

/* Not to be called: the future's rip is set here, rsp to parked rsp - 136, and parked rip is stored at rsp. */
void instar_runtime_gate(void);

#endif
