/* Preloaded into instar: what a hostile file would make of libelf, in whatever process reads it.
 *
 * HOSTILE=crash: it ends by SIGSEGV. HOSTILE=hang: it never ends. HOSTILE=deeds: it tries what it has no right to,
 * tells on standard error what it could do, and goes on. In the process that was started itself, where libelf has no
 * business, it says so on standard error. */
#include <dlfcn.h>
#include <fcntl.h>
#include <libelf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <unistd.h>

static pid_t tool;
static char program[4096];

/* Of those with a copy of this library only: the tool, and what it forks. */
__attribute__((constructor)) static void remember(void)
{
    tool = getpid();
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length < 0 ? 0 : length] = 0;
}

static void say(const char *what)
{
    if (write(2, "HOSTILE ", 8) < 0 || write(2, what, strlen(what)) < 0 || write(2, "\n", 1) < 0)
        abort();
}

static void try_deeds(void)
{
    char memory[64];
    snprintf(memory, sizeof memory, "/proc/%d/mem", (int)tool);
    if (socket(AF_INET, SOCK_STREAM, 0) >= 0)
        say("opened a socket");
    if (open(getenv("HOSTILE_FILE"), O_WRONLY | O_CREAT, 0600) >= 0)
        say("made a file");
    if (open(memory, O_RDWR) >= 0)
        say("opened the memory of the tool");
    if (ptrace(PTRACE_SEIZE, tool, NULL, NULL) == 0)
        say("traces the tool");
    if (kill(tool, 0) == 0)
        say("may send the tool a signal");
    if (fork() >= 0)
        say("has a child");
    char *arguments[] = {"true", NULL};
    execv("/bin/true", arguments); /* would end without an answer */
}

static void act(void)
{
    static int done;
    const char *wanted = getenv("HOSTILE");
    if (!wanted || done++)
        return;
    if (getpid() == tool) {
        say("libelf in the tool itself");
    } else if (!strcmp(wanted, "crash")) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    } else if (!strcmp(wanted, "hang")) {
        for (;;)
            pause();
    } else if (!strcmp(wanted, "deeds")) {
        try_deeds();
    }
}

/* libelf is not loaded for all, so that there is no next one of this name. */
static void *of_libelf(const char *name)
{
    void *library = dlopen("libelf.so.1", RTLD_NOW);
    if (!library || !dlsym(library, name))
        abort();
    return dlsym(library, name);
}

Elf *elf_begin(int file, Elf_Cmd command, Elf *reference)
{
    Elf *(*next)(int, Elf_Cmd, Elf *) = (Elf * (*)(int, Elf_Cmd, Elf *)) of_libelf("elf_begin");
    act();
    return next(file, command, reference);
}

Elf *elf_memory(char *image, size_t size)
{
    Elf *(*next)(char *, size_t) = (Elf * (*)(char *, size_t)) of_libelf("elf_memory");
    act();
    return next(image, size);
}
