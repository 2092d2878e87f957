/* Does a few heap operations for each byte on stdin and answers with a dot: 'd' writes into blocks only, others
 * allocate, free, resize and write. steps SEED */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BLOCKS 3000

static char *blocks[BLOCKS];
static unsigned long state;

static unsigned long pick(unsigned long below)
{
    state = state * 6364136223846793005UL + 1442695040888963407UL;
    return (state >> 33) % below;
}

static size_t size_of_next(void)
{
    switch (pick(8)) {
    case 0:
        return pick(200000);
    case 1:
        return pick(9000);
    case 2:
        return 24;
    default:
        return pick(300);
    }
}

static void change(int operation)
{
    unsigned long place = pick(BLOCKS);
    char *block = blocks[place];
    if (operation == 'd' || (operation == 'm' && pick(2))) {
        if (block)
            memset(block, (int)pick(256), malloc_usable_size(block));
    } else if (!block) {
        blocks[place] = malloc(size_of_next());
    } else if (pick(3)) {
        free(block);
        blocks[place] = NULL;
    } else {
        blocks[place] = realloc(block, size_of_next() + 1);
    }
}

int main(int argc, char **argv)
{
    char command;
    state = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    mallopt(M_MMAP_THRESHOLD, 65536);
    setvbuf(stdin, NULL, _IONBF, 0);
    for (int i = 0; i < 20000; i++)
        change('a');
    do {
        if (write(1, ".", 1) != 1)
            return 1;
        if (read(0, &command, 1) != 1)
            return 0;
        unsigned long count = command == 'n' ? 0 : command == 'm' ? 1 + pick(6) : 20;
        for (unsigned long i = 0; i < count; i++)
            change(command);
    } while (command != 'q');
    return 0;
}
