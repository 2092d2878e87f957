#include "scenario.h"

/* As large as a session, and something else: its first word is no pointer. */
struct sample {
    uint64_t time;
    long value, weight;
};

struct session {
    struct session *next;
    int kind;
    long bytes, packets;
};

STATE void *samples[16];
STATE struct session *sessions;

void fill(void)
{
    for (int i = 0; i < 16; i++) {
        struct sample *sample = calloc(1, sizeof *sample);
        *sample = (struct sample){0xfedcba9800000000 + (unsigned)i, i, 2 * i};
        samples[i] = sample;
    }
    sessions = calloc(1, sizeof *sessions);
    sessions->bytes = 5;
}

const char *check(void)
{
    for (int i = 0; i < 16; i++) {
        const struct sample *sample = samples[i];
        EXPECT(sample->time == 0xfedcba9800000000 + (unsigned)i && sample->weight == 2 * i);
    }
    EXPECT(sessions->bytes == 5 && sessions->next == NULL);
    return NULL;
}
