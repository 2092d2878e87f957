/* Damages a program's debug sections at random and walks the result; built with ASan and UBSan, which see to it
 * that nothing is read outside. Usage: walker_damage PROGRAM FIRST_SEED COUNT; prints how many walks gave each error. */
#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct walk;
struct walk *instar_walk_create(void);
int instar_walk_program(struct walk *, const char *, const char *, const char *, const char *);
const char *instar_walk_detail(const struct walk *);
void instar_walk_free(struct walk *);

enum { SECONDS_A_WALK = 20, ERRORS = 32 };

static uint64_t state;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* One to eight changes: a byte, a run of equal bytes, or a number that is often a limit. */
static void damage(uint8_t *data, size_t size)
{
    static const uint32_t limits[] = {0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0};
    for (uint64_t i = next_random() % 8 + 1; i; i--) {
        uint64_t kind = next_random() % 4, place = next_random() % size;
        if (kind == 0) {
            data[place] = (uint8_t)next_random();
        } else if (kind == 1) {
            data[place] ^= (uint8_t)(1u << next_random() % 8);
        } else if (kind == 2 && place + 4 <= size) {
            memcpy(data + place, &limits[next_random() % 9], 4);
        } else {
            size_t length = next_random() % 16;
            memset(data + place, (int)(next_random() % 3) * 0x7f,
                   length < size - place ? length : size - place);
        }
    }
}

static void damage_image(uint8_t *image)
{
    const Elf64_Ehdr *header = (const Elf64_Ehdr *)(const void *)image;
    Elf64_Shdr *sections = (Elf64_Shdr *)(void *)(image + header->e_shoff);
    const char *names = (const char *)image + sections[header->e_shstrndx].sh_offset;
    unsigned count = 0, debug[64];
    for (unsigned i = 0; i < header->e_shnum && count < 64; i++)
        if (!strncmp(names + sections[i].sh_name, ".debug_", 7) && sections[i].sh_size)
            debug[count++] = i;
    if (next_random() % 16 == 0) { /* the section table itself */
        damage((uint8_t *)sections, header->e_shnum * sizeof *sections);
        return;
    }
    Elf64_Shdr *chosen = &sections[debug[next_random() % count]];
    damage(image + chosen->sh_offset, chosen->sh_size);
}

static void on_alarm(int signal)
{
    (void)signal;
    static const char text[] = "a walk does not end\n";
    if (write(2, text, sizeof text - 1) > 0)
        _exit(9);
}

int main(int argc, char **argv)
{
    unsigned results[ERRORS] = {0};
    struct stat status;
    if (argc < 4)
        return 2;
    int file = open(argv[1], O_RDONLY), memory = memfd_create("damaged", 0);
    if (file < 0 || memory < 0 || fstat(file, &status))
        return 2;
    size_t size = (size_t)status.st_size;
    uint8_t *original = mmap(NULL, size, PROT_READ, MAP_PRIVATE, file, 0), *image = malloc(size);
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", memory);
    signal(SIGALRM, on_alarm);
    for (uint64_t seed = strtoull(argv[2], NULL, 10), last = seed + strtoull(argv[3], NULL, 10); seed < last;
         seed++) {
        state = seed * 0x9e3779b97f4a7c15u + 1;
        memcpy(image, original, size);
        damage_image(image);
        if (pwrite(memory, image, size, 0) != (ssize_t)size)
            return 2;
        fprintf(stderr, "\rseed %llu ", (unsigned long long)seed);
        alarm(SECONDS_A_WALK);
        struct walk *walk = instar_walk_create();
        int error = instar_walk_program(walk, path, argc > 4 ? argv[4] : ".", NULL, NULL);
        results[error < ERRORS ? error : ERRORS - 1]++;
        if (error == 11)
            printf("a bug: %s (seed %llu)\n", instar_walk_detail(walk), (unsigned long long)seed);
        instar_walk_free(walk);
    }
    free(image);
    for (int i = 0; i < ERRORS; i++)
        if (results[i])
            printf("%d %u\n", i, results[i]);
    return 0;
}
