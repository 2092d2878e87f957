/* The table has grown far beyond what a start gives it. main keeps copies of its address. */
enum { FIRST = 4, MORE = 3000 };

STATE int *table;
STATE int size = FIRST;
STATE volatile int agreed;

void fill(void)
{
    for (int step = 0; step < 3; step++) {
        size = step == 2 ? MORE : size * 4;
        table = realloc(table, (size_t)size * sizeof *table);
    }
    for (int i = 0; i < size; i++)
        table[i] = i * 3 + 1;
}

const char *check(void)
{
    EXPECT(size == MORE);
    for (int i = 0; i < size; i++)
        EXPECT(table[i] == i * 3 + 1);
    EXPECT(agreed);
    return NULL;
}
