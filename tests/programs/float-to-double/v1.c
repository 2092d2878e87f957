#include "scenario.h"

struct sample {
    float value;
    int weight;
    float window[3];
};

STATE struct sample *sample;
STATE float mean;
STATE int64_t sum;

void fill(void)
{
    sample = malloc(sizeof *sample);
    *sample = (struct sample){0.1f, -77, {1.5f, -0.0f, 3.4e38f}};
    mean = 1.0f / 3;
    sum = INT64_C(1) << 53;
}

const char *check(void)
{
    EXPECT(sample && sample->value == 0.1f && sample->weight == -77);
    EXPECT(sample->window[0] == 1.5f && sample->window[2] == 3.4e38f);
    EXPECT(sample->window[1] == 0 && __builtin_signbit(sample->window[1]));
    EXPECT(mean == 1.0f / 3);
    EXPECT(sum == INT64_C(1) << 53);
    return NULL;
}
