/* At load: take this library out of LD_PRELOAD again, so that nothing the program starts ever sees it. The tool puts
 * it first, as "LIBRARY" or "LIBRARY:WHAT-WAS-THERE"; what was there stays. */
#include "runtime.h"

#include <string.h>

static const char VARIABLE[] = "LD_PRELOAD=";
static const char LIBRARY[] = "libinstar-runtime.so";

/* Length of the first element of the list, if it is this library. */
static size_t measure_own_element(const char *list)
{
    size_t length = strcspn(list, ": ");
    size_t name = sizeof LIBRARY - 1;
    return length >= name && memcmp(list + length - name, LIBRARY, name) == 0 ? length : 0;
}

/* Shortens "LD_PRELOAD=own:rest" to "LD_PRELOAD=rest" in place; zeroes what is left over, /proc/PID/environ shows it.
 * Returns false if nothing remains of the variable. */
static bool cut_own_element(char *variable)
{
    char *list = variable + sizeof VARIABLE - 1;
    size_t length = measure_own_element(list), total = strlen(list);
    if (!length)
        return true;
    if (length == total) {
        memset(variable, 0, sizeof VARIABLE - 1 + total);
        return false;
    }
    size_t rest = total - length - 1;
    memmove(list, list + length + 1, rest);
    memset(list + rest, 0, total - rest);
    return true;
}

__attribute__((constructor)) static void clean_environment(int argc, char **argv, char **environment)
{
    for (char **entry = environment; environment && *entry; entry++) {
        if (strncmp(*entry, VARIABLE, sizeof VARIABLE - 1) != 0)
            continue;
        if (!cut_own_element(*entry))
            for (char **next = entry; *next; next++)
                next[0] = next[1];
        return;
    }
}
