/* Many shapes of code. VERSION 2 differs in exactly the functions whose names begin with "edited", and in data
 * and functions that only shift everything else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __clang__
#define KEEP __attribute__((noinline, used))
#else
#define KEEP __attribute__((noipa, used)) /* or main would know which registers a callee leaves alone */
#endif

#if VERSION == 2
const char *shifted_words[] = {"some", "strings", "that", "were", "not", "there"};
int shifted_counter[100] = {1};
KEEP int fresh_function(int x) { return printf("new %d\n", x * 3); }
#endif

struct pair {
    long key;
    int value;
};
static struct pair pairs[8] = {{1, 2}, {3, 4}};
static int total;
__thread int per_thread = 5;
static const double weights[4] = {1.5, 2.5, 3.5, 4.5};
static const char *const names[] = {"zero", "one", "two"};
char buffer[64];
static int twice(int x) { return 2 * x; }
int (*chosen)(int) = twice;

KEEP int uses_switch(int x) {
    switch (x) {
    case 0: return puts("none");
    case 1: return puts("a single one");
    case 2: return atoi("17");
    case 3: return total++;
    case 4: return abs(pairs[3].value);
    case 5: return (int)strlen(buffer);
    case 6: return chosen(x);
    case 7: return rand();
    }
    return -1;
}

KEEP int maps_values(int x) {
    switch (x) {
    case 0: return 31;
    case 1: return 28;
    case 2: return 33;
    case 3: return 39;
    case 4: return 4;
    case 5: return 77;
    }
    return 0;
}

KEEP double uses_floats(double d) { return d * 3.25 + weights[(int)d & 3] / 7.0; }

KEEP long uses_data(int i) {
    pairs[i & 7].value += 3;
    total += pairs[i & 7].value;
    return pairs[i & 7].key + per_thread++;
}

KEEP const char *uses_strings(int i) {
    snprintf(buffer, sizeof buffer, "%s is %d", names[i % 3], i);
    return i > 3 ? "large" : names[i % 3];
}

KEEP int (*takes_address(int i))(int) {
    return i ? chosen : twice;
}

KEEP int loops(const char *text) {
    int sum = 0;
    static int calls;
    for (const char *at = text; *at; at++)
        sum = sum * 31 + *at;
    calls++;
    return sum + calls;
}

KEEP int fails(int x) {
    if (__builtin_expect(x < 0, 0)) {
        fprintf(stderr, "negative: %d\n", x);
        abort();
    }
    return loops(uses_strings(x));
}

KEEP int edited_constant(int x) { return x * (VERSION == 1 ? 17 : 19); }
KEEP int edited_string(void) { return puts(VERSION == 1 ? "good day" : "GOOD day"); }
KEEP int edited_call(int x) { return VERSION == 1 ? abs(x) + rand() : abs(x) + twice(x); }
KEEP int edited_variable(void) { return VERSION == 1 ? total : (int)pairs[1].key; }
KEEP int edited_field(int i) { return VERSION == 1 ? pairs[i].value : (int)pairs[i].key; }
KEEP double edited_float(double d) { return d * (VERSION == 1 ? 9.25 : 9.5); }
KEEP int edited_map(int x) {
    switch (x) {
    case 0: return 131;
    case 1: return 128;
    case 2: return VERSION == 1 ? 133 : 134;
    case 3: return 139;
    case 4: return 104;
    case 5: return 177;
    }
    return 0;
}

int main(int argc, char **argv) {
    long sum = uses_switch(argc) + maps_values(argc) + (long)uses_floats(argc) + uses_data(argc);
    sum += uses_strings(argc)[0] + takes_address(argc)(argc) + loops(argv[0]) + fails(argc);
    sum += edited_constant(argc) + edited_string() + edited_call(argc) + edited_variable() + edited_field(argc);
    return (int)(sum + (long)edited_float(argc) + edited_map(argc)) & 1;
}
