/* A program that makes updates hard. Arguments: how it waits, how long at most (ms, -1 for ever), and what it does at
 * every turn. It is told what to do, and answers, as a scenario program (tests/programs/scenario.h) does. */
#define SCENARIO_OWN_MAIN
#include "scenario.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

enum { CELLS = 4096, SLOTS = 512, POOLS = 24 };

struct cell {
#ifdef SECOND
    long generation;
#endif
    struct cell *next;
    unsigned id;
    unsigned char *bytes;
    size_t size;
};

struct pool {
    long *memory;
    size_t size;
    long mark;
};

STATE struct cell *cells[SLOTS];
STATE struct pool pools[POOLS];
STATE volatile long ticks, hits, children, interrupted, early, late;
STATE volatile long ring[64];
STATE long turns, waited_ms = -1;
STATE const char *way, *habit;
STATE int epoll = -1, extra = -1, swapped = -1;
STATE uint32_t seed = 1;
STATE bool signals_expected, broken;
STATE char **arguments;

/* Handlers change state: the ring must always hold `ticks` in all. */
static void on_tick(int number)
{
    (void)number;
    ring[ticks % 64]++;
    ticks++;
}

static void on_hit(int number)
{
    (void)number;
    hits++;
}

static void on_child(int number)
{
    int saved = errno;
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        children++;
    errno = saved;
}

static void on_execute(int number)
{
    (void)number;
    execv(arguments[4], arguments);
    _exit(9);
}

static void catch(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(number, &action, NULL);
}

static void drop(unsigned slot)
{
    struct cell *cell = cells[slot];
    if (cell == NULL)
        return;
    if (!scenario_holds(cell->bytes, cell->size, (unsigned char)cell->id) || cell->id % SLOTS != slot)
        broken = true;
    cells[slot] = cell->next;
    free(cell->bytes);
    free(cell);
}

static void add(unsigned slot)
{
    struct cell *cell = malloc(sizeof *cell);
    cell->id = slot + SLOTS * (scenario_random(&seed) % 1000);
    cell->size = scenario_size(&seed) % 3000 + 1;
    cell->bytes = malloc(cell->size); /* may hold old pointers behind the bytes */
    memset(cell->bytes, (unsigned char)cell->id, cell->size);
    cell->next = cells[slot];
    cells[slot] = cell;
}

static void churn(int steps)
{
    for (int i = 0; i < steps; i++) {
        unsigned slot = scenario_random(&seed) % SLOTS;
        if (scenario_random(&seed) % 2)
            add(slot);
        else
            drop(slot);
    }
}

/* One pool is given back and another one mapped, which the kernel may put beside others; one loses its pages. */
static void renew_pool(void)
{
    struct pool *pool = &pools[turns % POOLS];
    if (pool->memory)
        munmap(pool->memory, pool->size);
    pool->size = 4096 * (1 + scenario_random(&seed) % 40);
    pool->memory = mmap(NULL, pool->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pool->memory == MAP_FAILED)
        abort();
    pool->mark = turns;
    for (size_t i = 0; i < pool->size / sizeof(long); i++)
        pool->memory[i] = pool->mark;
    pool = &pools[scenario_random(&seed) % POOLS];
    if (pool->memory && scenario_random(&seed) % 4 == 0) {
        madvise(pool->memory, pool->size, MADV_DONTNEED);
        pool->mark = 0;
    }
}

static bool pools_hold(void)
{
    for (int n = 0; n < POOLS; n++)
        for (size_t i = 0; pools[n].memory && i < pools[n].size / sizeof(long); i++)
            if (pools[n].memory[i] != pools[n].mark)
                return false;
    return true;
}

static void reopen(void)
{
    int ends[2];
    if (extra >= 0)
        close(extra);
    extra = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (pipe(ends) != 0)
        abort();
    close(ends[turns % 2]);
    close(ends[!(turns % 2)]);
}

static void *live_briefly(void *argument)
{
    usleep(2000);
    return argument;
}

static void spawn_thread(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, live_briefly, NULL) == 0)
        pthread_detach(thread);
}

static void spawn_child(void)
{
    pid_t child = fork();
    if (child == 0) {
        usleep(2000);
        _exit(0);
    }
}

/* Number 60 is something else every time. */
static void swap_descriptor(void)
{
    int fresh = -1;
    swapped = (swapped + 1) % 3;
    if (swapped == 0)
        fresh = eventfd(7, EFD_NONBLOCK);
    else
        fresh = swapped == 1 ? open("/dev/null", O_RDWR) : socket(AF_INET, SOCK_DGRAM, 0);
    if (fresh < 0 || dup2(fresh, 60) != 60 || close(fresh) != 0)
        abort();
}

static NOINLINE void take_turn(void)
{
    turns++;
    if (strcmp(habit, "swap") == 0)
        swap_descriptor();
    else if (strcmp(habit, "churn") == 0)
        churn(200);
    else if (strcmp(habit, "reopen") == 0)
        reopen();
    else if (strcmp(habit, "pool") == 0)
        renew_pool();
    else if (strcmp(habit, "thread") == 0 && turns % 8 == 0)
        spawn_thread();
    else if (strcmp(habit, "fork") == 0 && turns % 8 == 0)
        spawn_child();
    else if (strcmp(habit, "map") == 0) {
        void *memory =
            mmap(NULL, 4096 * (1 + turns % 7), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        *(long *)memory = turns;
        munmap(memory, 4096 * (1 + turns % 7));
    }
}

NOINLINE void fill(void)
{
    for (unsigned slot = 0; slot < SLOTS; slot++)
        for (int i = 0; i < CELLS / SLOTS; i++)
            add(slot);
}

static bool swapped_right(void)
{
    struct stat facts;
    mode_t kinds[] = {0, S_IFCHR, S_IFSOCK};
    return swapped < 0 || (fstat(60, &facts) == 0 && (facts.st_mode & S_IFMT) == kinds[swapped]);
}

NOINLINE const char *check(void)
{
    EXPECT(swapped_right());
    long total = 0, seen;
    do {
        seen = ticks;
        total = 0;
        for (int i = 0; i < 64; i++)
            total += ring[i];
    } while (seen != ticks);
    EXPECT(total == seen);
    EXPECT(!broken);
    EXPECT(pools_hold());
    for (unsigned slot = 0; slot < SLOTS; slot++)
        for (struct cell *cell = cells[slot]; cell; cell = cell->next) {
            EXPECT(cell->id % SLOTS == slot);
            EXPECT(scenario_holds(cell->bytes, cell->size, (unsigned char)cell->id));
        }
    EXPECT(signals_expected || interrupted == 0);
    EXPECT(early == 0);
    EXPECT(late == 0);
    return NULL;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

static int wait_by_select(int timeout_ms)
{
    fd_set set;
    struct timeval left = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    FD_ZERO(&set);
    FD_SET(STDIN_FILENO, &set);
    return select(1, &set, NULL, NULL, timeout_ms < 0 ? NULL : &left);
}

static int wait_by_poll(int timeout_ms)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    return poll(&input, 1, timeout_ms);
}

static int wait_by_epoll(int timeout_ms)
{
    struct epoll_event event = {.events = EPOLLIN};
    if (epoll < 0) {
        epoll = epoll_create1(EPOLL_CLOEXEC);
        epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    }
    return epoll_wait(epoll, &event, 1, timeout_ms);
}

/* Waits once; true when there is input. */
static NOINLINE bool wait_once(void)
{
    double start = now_ms();
    int ready = strcmp(way, "select") == 0 ? wait_by_select((int)waited_ms)
                : strcmp(way, "poll") == 0 ? wait_by_poll((int)waited_ms)
                                           : wait_by_epoll((int)waited_ms);
    double elapsed = now_ms() - start;
    if (ready < 0 && errno == EINTR)
        interrupted++;
    if (ready == 0 && elapsed < waited_ms - 1)
        early++;
    if (ready == 0 && elapsed > waited_ms + 5000)
        late++;
    return ready > 0;
}

static NOINLINE bool serve_once(void)
{
    if (strcmp(way, "read") != 0 && !wait_once()) {
        take_turn();
        return true;
    }
    return scenario_read();
}

#ifdef OWN_ALLOCATOR
static _Alignas(16) char own_heap[1 << 20];
static size_t own_used;

void *malloc(size_t size)
{
    void *found = own_heap + own_used;
    own_used += (size + 15) & ~(size_t)15;
    return found;
}

void free(void *block)
{
    (void)block;
}
#endif

static void on_fault(int number)
{
    (void)number;
    _exit(7);
}

/* What a new version might do before it serves. */
static void start_up(void)
{
    catch(SIGBUS, on_fault, 0);
#ifdef START_HELPERS
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
#endif
#ifdef START_PRINTS
    for (int i = 0; i < 1 << 16; i++)
        fputs("0123456789012345678901234567890123456789012345678901234567890\n", stderr);
#endif
#ifdef START_LOOPS
    for (;;)
        free(malloc(100));
#endif
#ifdef START_CLOSES
    for (int i = 3; i < 1024; i++)
        close(i);
#endif
#ifdef START_LIMITS
    struct rlimit limit = {8, 8};
    setrlimit(RLIMIT_NOFILE, &limit);
#endif
#ifdef START_MOVES
    if (chdir("/") != 0)
        abort();
#endif
#ifdef START_DROPS
    if (setgid(65534) != 0 || setuid(65534) != 0)
        abort();
#endif
#ifdef START_FAULTS
    catch(SIGSEGV, on_fault, SA_ONSTACK);
    catch(SIGTRAP, on_fault, 0);
    catch(SIGILL, on_fault, 0);
#endif
#ifdef START_TRACED
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
#endif
#ifdef START_UNDUMPABLE
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
#ifdef START_AGAIN
    if (!getenv("AGAIN") && setenv("AGAIN", "1", 1) == 0)
        execv("/proc/self/exe", arguments);
#endif
#ifdef START_CONFINED
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog filter = {1, &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter);
#endif
#ifdef START_GRABS
    for (int i = 0; i < 60; i++)
        mmap(NULL, 1ul << 41, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
#endif
#ifdef START_STOPS
    raise(SIGSTOP);
#endif
#ifdef START_BLOCKS
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
#endif
}

int main(int argc, char **argv)
{
    struct itimerval every = {{0, 1000}, {0, 1000}};
    arguments = argv;
    way = argc > 1 ? argv[1] : "poll";
    waited_ms = argc > 2 ? atol(argv[2]) : -1;
    habit = argc > 3 ? argv[3] : "none";
    signals_expected =
        strcmp(habit, "timer") == 0 || strcmp(habit, "storm") == 0 || strcmp(habit, "fork") == 0;
    catch(SIGALRM, on_tick, 0);
    catch(SIGUSR1, on_hit, 0);
    catch(SIGCHLD, on_child, 0);
    catch(SIGUSR2, on_execute, SA_NODEFER);
    if (strcmp(habit, "timer") == 0)
        setitimer(ITIMER_REAL, &every, NULL);
    start_up();
    scenario_ready();
    while (serve_once())
        ;
    return 0;
}
