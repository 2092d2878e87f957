/* As a server that looked at its capabilities when it started: the block holds a time zone's name by now. */
struct zone {
    char name[40];
    long offset;
};

STATE struct header *kept;
STATE struct zone *zone;

static NOINLINE struct header *read_header(int version)
{
    struct header *header = malloc(sizeof *header);
    memset(header, 0, sizeof *header);
    header->version = version;
    return header;
}

void fill(void)
{
    strcpy(zone->name, "UTC");
    zone->offset = 3600;
}

const char *check(void)
{
    EXPECT(kept->version == 3 && kept->flags[12] == 0);
    EXPECT(strcmp(zone->name, "UTC") == 0 && zone->offset == 3600);
    return NULL;
}

int main(void)
{
    struct header *volatile header = read_header(2);
    int version = header->version + 1;

    free(header);
    zone = malloc(sizeof *zone); /* the same block; not calloc, which takes another */
    memset(zone, 1, sizeof *zone);
    kept = read_header(version);
    scenario_loop();
    return 0;
}
