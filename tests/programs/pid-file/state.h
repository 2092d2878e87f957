#define SCENARIO_OWN_MAIN
#include "scenario.h"
#include <fcntl.h>

STATE int filled;

static void put(const char *name, int flags, const char *text)
{
    int file = open(name, O_WRONLY | O_CREAT | flags, 0644);
    if (file < 0 || write(file, text, strlen(text)) != (ssize_t)strlen(text))
        abort();
    close(file);
}

static void leave_traces(void)
{
    char text[32];
    snprintf(text, sizeof text, "%d\n", (int)getpid());
    put("scenario.pid", O_TRUNC, text);
    put("scenario.log", O_APPEND, "started " VERSION "\n");
    put("scenario.new", O_EXCL, VERSION);
    if (rename("scenario.new", "scenario.version") < 0)
        abort();
}

void fill(void)
{
    filled = 7;
}

const char *check(void)
{
    EXPECT(filled == 7);
    return NULL;
}

int main(void)
{
    leave_traces();
    scenario_loop();
    return 0;
}
