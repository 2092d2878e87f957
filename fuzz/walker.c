/* libFuzzer's entry to the walker of debug information: the input is a program file. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct walk;
struct walk *instar_walk_create(void);
int instar_walk_program(struct walk *, const char *, const char *, const char *, const char *);
void instar_walk_free(struct walk *);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BUG = 11 }; /* the walker's own assertion */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int memory = -1;
    static char path[64];
    if (memory < 0) {
        memory = memfd_create("input", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    }
    if (ftruncate(memory, 0) || pwrite(memory, data, size, 0) != (ssize_t)size)
        abort();
    struct walk *walk = instar_walk_create();
    if (instar_walk_program(walk, path, ".", NULL, NULL) == BUG)
        abort();
    instar_walk_free(walk);
    return 0;
}
