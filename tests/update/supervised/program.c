/* A service of a manager as systemd is one: it reports its start, wants to end with its parent, and is watched. */
#define SCENARIO_OWN_MAIN
#include "scenario.h"
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

STATE long answers = 40;

static void report(const char *address, bool connected)
{
    struct sockaddr_un manager = {.sun_family = AF_UNIX};
    char text[64];
    int channel = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    size_t length = strlen(address);
    int size = snprintf(text, sizeof text, "READY=1\nMAINPID=%d", (int)getpid());
    memcpy(manager.sun_path, address, length);
    if (address[0] == '@')
        manager.sun_path[0] = '\0';
    socklen_t all = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    ssize_t sent = -1;
    if (connected && connect(channel, (struct sockaddr *)&manager, all) == 0)
        sent = write(channel, text, (size_t)size);
    else if (!connected)
        sent = sendto(channel, text, (size_t)size, 0, (struct sockaddr *)&manager, all);
    if (sent != size && errno != ECONNREFUSED)
        exit(8);
    close(channel);
}

void fill(void)
{
    answers++;
}

const char *check(void)
{
    EXPECT(answers == 41);
    return NULL;
}

int main(void)
{
    const char *address = getenv("NOTIFY_SOCKET"), *watched = getenv("WATCHDOG_PID");
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0)
        return 7;
    if (watched && atoi(watched) != (int)getpid())
        return 9;
    if (address) {
        report(address, false);
        report(address, true);
    }
    scenario_loop();
    return 0;
}
