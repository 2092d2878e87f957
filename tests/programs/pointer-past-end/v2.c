#include "scenario.h"

struct buffer {
    long used;
    char data[32];
    char *end;
};

struct cell {
    void *owner;
    int value;
};

STATE struct buffer *buffer;
STATE struct cell cells[6], *cells_end;
STATE struct cell *heap, *heap_end;
STATE char text[16], *text_end;

void fill(void)
{
    buffer = calloc(1, sizeof *buffer);
    strcpy(buffer->data, "some data");
    buffer->end = buffer->data + strlen(buffer->data);
    heap = calloc(40, sizeof *heap);
    heap_end = heap + 40;
    for (int i = 0; i < 40; i++)
        heap[i].value = i;
    cells_end = cells + 6;
    cells[5].value = 55;
    memset(text, 'x', sizeof text);
    text_end = text + sizeof text;
}

const char *check(void)
{
    int i = 0;
    EXPECT(buffer && strcmp(buffer->data, "some data") == 0 && buffer->end == buffer->data + 9);
    EXPECT(heap && heap_end == heap + 40);
    for (struct cell *c = heap; c != heap_end; c++, i++)
        EXPECT(c->value == i);
    EXPECT(cells_end == cells + 6 && cells_end[-1].value == 55);
    EXPECT(text_end == text + sizeof text && text_end[-1] == 'x');
    return NULL;
}
