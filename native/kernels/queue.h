/* The objects that tracing and reaching have still to look at, each of them once: a ring of `object_count` rows. */
#ifndef INSTAR_QUEUE_H
#define INSTAR_QUEUE_H

#include "state.h"

static inline void instar_state_enqueue(instar_state *state, int64_t row)
{
    instar_object *object = &state->objects[row];
    if (object->flags & FLAG_QUEUED)
        return;
    object->flags |= FLAG_QUEUED;
    state->queue[state->queue_tail] = (int32_t)row;
    state->queue_tail = (state->queue_tail + 1) % state->object_count;
    state->queued++;
}

static inline int64_t instar_state_dequeue(instar_state *state)
{
    if (!state->queued)
        return -1;
    int64_t row = state->queue[state->queue_head];
    state->queue_head = (state->queue_head + 1) % state->object_count;
    state->queued--;
    state->objects[row].flags &= ~(uint32_t)FLAG_QUEUED;
    return row;
}

/* A pointer just before a block (`p = block - 1`) keeps it alive. */
static inline void instar_state_hold_before(instar_state *state, uint64_t value, int64_t parent,
                                            uint64_t parent_offset)
{
    int64_t row = instar_state_before(state, value);
    if (row < 0 || (state->objects[row].flags & FLAG_REACHED))
        return;
    state->objects[row].flags |= FLAG_REACHED;
    if (state->objects[row].type < 0) {
        state->objects[row].parent = (int32_t)parent;
        state->objects[row].parent_offset = (uint32_t)parent_offset;
    }
}

#endif
