#include "scenario.h"

struct color {
    unsigned char red, green, blue;
};

struct pen {
    struct color ink;
    short width;
};

struct shape {
    struct pen outline;
    struct color inside;
    struct {
        struct pen pens[2];
        int used;
    } box;
    struct shape *below;
};

STATE struct shape top;

void fill(void)
{
    struct shape *below = calloc(1, sizeof *below);
    below->inside = (struct color){1, 2, 3};
    below->outline.width = -5;
    top = (struct shape){.outline = {{10, 20, 30}, 40}, .inside = {50, 60, 70}, .below = below};
    top.box.pens[1] = (struct pen){{80, 90, 100}, 110};
    top.box.used = 120;
}

const char *check(void)
{
    EXPECT(top.outline.ink.red == 10 && top.outline.ink.blue == 30 && top.outline.width == 40);
    EXPECT(top.inside.red == 50 && top.inside.green == 60 && top.inside.blue == 70);
    EXPECT(top.box.pens[0].width == 0 && top.box.pens[1].ink.green == 90);
    EXPECT(top.box.pens[1].width == 110 && top.box.used == 120);
    EXPECT(top.below && top.below->inside.green == 2 && top.below->outline.width == -5);
    EXPECT(top.below->below == NULL && top.below->outline.ink.red == 0);
    return NULL;
}
