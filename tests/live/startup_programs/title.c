/* A server that shows a title in place of its arguments: with "copied" it copies arguments and environment first, as
 * redis does. Arguments: PORT HOW. */
#include "scenario.h"
#include <poll.h>

extern char **environ;

int main(int argc, char **argv)
{
    int listener = listen_tcp(atoi(argv[1]));
    say("ready");
    say("arguments %s %s %s", argv[1], argv[2], getenv("COLOUR") ? getenv("COLOUR") : "-");
    char *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1, *begin = argv[0];
    for (char **entry = environ; *entry && strcmp(argv[2], "copied") == 0; entry++)
        if (*entry == end)
            end += strlen(*entry) + 1;
    if (strcmp(argv[2], "copied") == 0) {
        char **copy = calloc(64, sizeof *copy);
        for (int i = 0; environ[i] && i < 63; i++)
            copy[i] = strdup(environ[i]);
        environ = copy;
        for (int i = 1; i < argc; i++)
            argv[i] = strdup(argv[i]);
    }
    if (VERSION == 1) {
        memset(begin, 0, end - begin);
        snprintf(begin, end - begin, "title: serving");
    }
    for (;;) {
        struct pollfd entry = {.fd = listener, .events = POLLIN};
        if (poll(&entry, 1, -1) == 1)
            serve_one(listener);
    }
}
