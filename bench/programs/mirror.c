/* Holds SIZE bytes, written once, and says where; waits for the end of its input. For the floor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int main(int argc, char **argv) {
    size_t size = argc > 1 ? strtoull(argv[1], NULL, 10) : 0;
    char byte, *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return 1;
    memset(p, 0x5a, size);
    printf("%p\n", (void *)p);
    fflush(stdout);
    return read(0, &byte, 1) > 0;
}
