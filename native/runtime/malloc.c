/* The allocator functions that take a pointer: for a block inside an inherited range they are answered here, all
 * others go on to whoever would have been called without this library. What makes new blocks is not touched, so new
 * memory, its alignment and its speed are the allocator's own. */
#include "runtime.h"
#include "syscalls.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* glibc keeps these names for callers such as this one; weak, in case another libc does not. */
extern void __libc_free(void *) __attribute__((weak));
extern void *__libc_realloc(void *, size_t) __attribute__((weak));
extern __typeof__(dlsym) dlsym __attribute__((weak)); /* before glibc 2.34 it may be absent */

static void first_free(void *pointer);
static void *first_realloc(void *pointer, size_t size);
static size_t first_usable_size(void *pointer);

static void (*next_free)(void *) = first_free;
static void *(*next_realloc)(void *, size_t) = first_realloc;
static size_t (*next_usable_size)(void *) = first_usable_size;

static size_t unknown_usable_size(void *pointer)
{
    return 0; /* a caller may use only what it asked for */
}

/* The loader calls free and realloc before any constructor, and dlsym may call them in turn: for that moment libc's
 * own are the next ones. */
static void resolve_next(void)
{
    next_free = __libc_free;
    next_realloc = __libc_realloc;
    next_usable_size = unknown_usable_size;
    if (!dlsym)
        return;
    void *found_free = dlsym(RTLD_NEXT, "free");
    void *found_realloc = dlsym(RTLD_NEXT, "realloc");
    void *found_usable_size = dlsym(RTLD_NEXT, "malloc_usable_size");
    if (found_free && found_realloc) {
        next_free = (void (*)(void *))found_free;
        next_realloc = (void *(*)(void *, size_t))found_realloc;
    }
    if (found_usable_size)
        next_usable_size = (size_t (*)(void *))found_usable_size;
}

static void first_free(void *pointer)
{
    resolve_next();
    next_free(pointer);
}

static void *first_realloc(void *pointer, size_t size)
{
    resolve_next();
    return next_realloc(pointer, size);
}

static size_t first_usable_size(void *pointer)
{
    resolve_next();
    return next_usable_size(pointer);
}

/* As glibc does for its own blocks: say what is wrong, then abort. */
__attribute__((noreturn, noinline, cold)) static void die(const char *message)
{
    raw_syscall(SYS_write, 2, (long)message, (long)strlen(message), 0, 0, 0);
    abort();
}

__attribute__((noinline)) static void free_inherited(void *pointer)
{
    struct runtime_found found;
    if (!runtime_blocks_find(pointer, &found) || !runtime_blocks_release(&found))
        die("free(): invalid pointer or double free of an inherited block\n");
}

__attribute__((noinline)) static void *realloc_inherited(void *pointer, size_t size)
{
    struct runtime_found found;
    if (!runtime_blocks_find(pointer, &found))
        die("realloc(): invalid pointer into inherited memory\n");
    if (size == 0) { /* glibc's answer */
        free_inherited(pointer);
        return NULL;
    }
    if (size <= found.size) {
        runtime_blocks_shrink(&found, size);
        return pointer;
    }
    void *moved = malloc(size);
    if (!moved)
        return NULL;
    memcpy(moved, pointer, found.size);
    free_inherited(pointer);
    return moved;
}

/* Under a name that cannot be taken over, to compare with what `free` means to the program. */
static void runtime_free(void *pointer)
{
    if (UNLIKELY(runtime_blocks_contains(pointer)))
        free_inherited(pointer);
    else
        next_free(pointer);
}

EXPORT void free(void *pointer) __attribute__((alias("runtime_free")));

EXPORT void *realloc(void *pointer, size_t size)
{
    if (UNLIKELY(runtime_blocks_contains(pointer)))
        return realloc_inherited(pointer, size);
    return next_realloc(pointer, size);
}

EXPORT void *reallocarray(void *pointer, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(pointer, bytes);
}

EXPORT size_t malloc_usable_size(void *pointer)
{
    struct runtime_found found;
    if (LIKELY(!runtime_blocks_contains(pointer)))
        return next_usable_size(pointer);
    return runtime_blocks_find(pointer, &found) ? found.size : 0;
}

__attribute__((constructor)) static void start_interposing(void)
{
    if (next_free == first_free)
        resolve_next();
    if (dlsym && dlsym(RTLD_DEFAULT, "free") == (void *)runtime_free)
        instar_runtime_state.flags |= INSTAR_RUNTIME_INTERPOSED;
}
