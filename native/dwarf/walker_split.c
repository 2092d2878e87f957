/* Split DWARF: the units that skeletons stand for, in .dwo files or in a .dwp package (DWARF 5 section 7.3.5). */
#include "walker.h"

#include <dwarf.h>
#include <stdio.h>
#include <string.h>

/* One index section (.debug_cu_index or .debug_tu_index). */
struct index {
    struct slice section;
    uint32_t version, columns, units, slots;
    uint64_t signatures, rows, ids, offsets, sizes; /* offsets in the section */
};

static uint32_t word(const struct index *index, uint64_t offset)
{
    bool ok;
    return (uint32_t)read_offset(index->section, offset, 4, &ok);
}

static bool index_read(struct slice section, struct index *index)
{
    *index = (struct index){.section = section};
    if (section.size < 16)
        return false;
    index->version = word(index, 0) & 0xffff;
    index->columns = word(index, 4);
    index->units = word(index, 8);
    index->slots = word(index, 12);
    uint64_t cells = 4 * (uint64_t)index->columns;
    index->signatures = 16;
    index->rows = 16 + 8 * (uint64_t)index->slots;
    index->ids = index->rows + 4 * (uint64_t)index->slots;
    index->offsets = index->ids + cells;
    bool fits = index->columns <= 32 && index->units <= section.size && index->slots <= section.size;
    if (fits)
        index->sizes = index->offsets + cells * index->units;
    return fits && index->sizes + cells * index->units <= section.size;
}

static int section_of_id(const struct index *index, uint32_t id)
{
    static const int old[] = {
        -1, SECTION_INFO, SECTION_TYPES, SECTION_ABBREV, SECTION_LINE, SECTION_LOC, SECTION_STR_OFFSETS, -1,
        -1};
    static const int modern[] = {
        -1, SECTION_INFO,    -1, SECTION_ABBREV, SECTION_LINE, SECTION_LOCLISTS, SECTION_STR_OFFSETS,
        -1, SECTION_RNGLISTS};
    return id > 8 ? -1 : index->version >= 5 ? modern[id] : old[id];
}

/* The part of each section that one unit of the package has. */
static struct sections *contribution(struct walk *walk, const struct sections *package,
                                     const struct index *index, uint32_t row)
{
    struct sections *part = walk_allocate(walk, sizeof *part);
    part->at[SECTION_STR] = package->at[SECTION_STR];
    part->at[SECTION_LINE_STR] = package->at[SECTION_LINE_STR];
    for (uint32_t column = 0; column < index->columns; column++) {
        int id = section_of_id(index, word(index, index->ids + 4 * (uint64_t)column));
        uint64_t cell = 4 * ((uint64_t)row * index->columns + column);
        if (id < 0)
            continue;
        uint32_t offset = word(index, index->offsets + cell), size = word(index, index->sizes + cell);
        part->at[id] = slice_part(package->at[id], offset, size);
        if (size && !part->at[id].data)
            walk_fail(walk, WALK_DAMAGED, "the package's index points outside");
    }
    return part;
}

static struct sections *package_unit(struct walk *walk, const struct sections *package,
                                     const struct index *index, uint64_t dwo_id)
{
    for (uint32_t slot = 0; slot < index->slots; slot++) {
        bool ok;
        uint32_t row = word(index, index->rows + 4 * (uint64_t)slot);
        uint64_t signature = read_offset(index->section, index->signatures + 8 * (uint64_t)slot, 8, &ok);
        if (row && row <= index->units && signature == dwo_id)
            return contribution(walk, package, index, row - 1);
    }
    return NULL;
}

static void package_types(struct walk *walk, const struct sections *package)
{
    struct index index;
    if (!index_read(package->at[SECTION_TU_INDEX], &index))
        return;
    for (uint32_t row = 0; row < index.units; row++)
        units_add(walk, contribution(walk, package, &index, row), true);
}

/* A .dwo is where the compiler wrote it, or beside the program. */
static struct sections *open_dwo(struct walk *walk, const char *beside, const struct unit *skeleton)
{
    char path[4096];
    struct sections *sections;
    const char *name = skeleton->dwo_name, *directory = skeleton->directory ? skeleton->directory : ".";
    const char *base = strrchr(name, '/');
    snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : directory, *name == '/' ? "" : "/", name);
    if (sections_try_open(walk, path, &sections))
        return sections;
    snprintf(path, sizeof path, "%s/%s", beside, *name == '/' ? base + 1 : name);
    if (sections_try_open(walk, path, &sections))
        return sections;
    snprintf(path, sizeof path, "%s/%s", beside, base ? base + 1 : name);
    if (sections_try_open(walk, path, &sections))
        return sections;
    walk_fail(walk, WALK_SPLIT_MISSING, "%s (of the unit %s in %s)", name,
              skeleton->name ? skeleton->name : "", directory);
}

static bool is_full(const struct unit *unit)
{
    return unit->type == DW_UT_compile || unit->type == DW_UT_split_compile;
}

static void link_unit(struct walk *walk, const char *beside, const struct sections *package,
                      const struct index *index, struct unit *skeleton)
{
    size_t first = walk->units.count;
    struct sections *sections = package ? package_unit(walk, package, index, skeleton->dwo_id) : NULL;
    units_add(walk, sections ? sections : open_dwo(walk, beside, skeleton), true);
    struct unit **units = (struct unit **)walk->units.data;
    for (size_t i = first; i < walk->units.count; i++)
        if (is_full(units[i]) && units[i]->dwo_id == skeleton->dwo_id) {
            unit_set_skeleton(walk, units[i], skeleton);
            return;
        }
    walk_fail(walk, WALK_SPLIT_MISMATCH, "%s", skeleton->dwo_name);
}

void split_link(struct walk *walk, const char *beside, const char *package_path)
{
    struct sections *package = NULL;
    struct index index = {0};
    size_t count = walk->units.count;
    if (package_path) {
        package = sections_open(walk, package_path, false);
        if (!index_read(package->at[SECTION_CU_INDEX], &index))
            walk_fail(walk, WALK_DAMAGED, "%s: no usable index", package_path);
        package_types(walk, package);
    }
    for (size_t i = 0; i < count; i++) {
        struct unit *unit = ((struct unit **)walk->units.data)[i];
        if (unit->dwo_name && !unit->is_split && !unit->sections->is_alt)
            link_unit(walk, beside, package, &index, unit);
    }
}
