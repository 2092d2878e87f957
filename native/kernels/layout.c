/* Sizes of the shared columns, for the test that compares them with Python's. */
#include "validation.h"

uint64_t instar_layout_size(int which);

uint64_t instar_layout_size(int which)
{
    static const uint64_t sizes[] = {
        sizeof(instar_object),  sizeof(instar_region),      sizeof(instar_type), sizeof(instar_slot),
        sizeof(instar_fixed),   sizeof(instar_move),        sizeof(instar_bits), sizeof(instar_enum),
        sizeof(instar_mapping), sizeof(instar_inner),       sizeof(instar_word), sizeof(instar_fault),
        sizeof(instar_change),  sizeof(instar_counterpart), sizeof(instar_mask), sizeof(instar_difference),
        sizeof(instar_lead),    sizeof(instar_extra),
    };
    return which >= 0 && (size_t)which < sizeof sizes / sizeof *sizes ? sizes[which] : 0;
}
