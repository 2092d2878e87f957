/* One page for each size; nothing but a void pointer leads to it. A piece is found again from its address. */
struct session {
    struct session *next;
    struct account *account;
    char name[24];
    int number;
};

struct timer {
    struct session *session;
    long due;
};

enum { PIECES = 512, ACCOUNTS = 5, SESSIONS = 300 };

struct slab {
    void *page;
    size_t piece;
    uint64_t used[PIECES / 64];
};

STATE struct slab slabs[2] = {{.piece = sizeof(struct session)}, {.piece = sizeof(struct timer)}};
STATE struct account *accounts[ACCOUNTS];
STATE struct session *sessions;
STATE struct timer *timers[SESSIONS];
STATE int next_number;

static void *slab_take(struct slab *slab)
{
    if (slab->page == NULL)
        slab->page = malloc(PIECES * slab->piece);
    for (int i = 0; i < PIECES; i++)
        if (!(slab->used[i / 64] >> i % 64 & 1)) {
            slab->used[i / 64] |= UINT64_C(1) << i % 64;
            return memset((char *)slab->page + (size_t)i * slab->piece, 0, slab->piece);
        }
    abort();
}

static void slab_give(struct slab *slab, void *piece)
{
    size_t index = (size_t)((char *)piece - (char *)slab->page) / slab->piece;
    if (index >= PIECES || !(slab->used[index / 64] >> index % 64 & 1))
        abort();
    slab->used[index / 64] &= ~(UINT64_C(1) << index % 64);
}

static void open_session(void)
{
    struct session *session = slab_take(&slabs[0]);
    struct timer *timer = slab_take(&slabs[1]);
    session->number = next_number++;
    session->account = accounts[session->number % ACCOUNTS];
    session->account->sessions++;
    snprintf(session->name, sizeof session->name, "session %d", session->number);
    session->next = sessions;
    sessions = session;
    timer->session = session;
    timer->due = 1000L + session->number;
    timers[session->number % SESSIONS] = timer;
}

static void close_last(void)
{
    struct session *session = sessions;
    sessions = session->next;
    session->account->sessions--;
    slab_give(&slabs[1], timers[session->number % SESSIONS]);
    timers[session->number % SESSIONS] = NULL;
    slab_give(&slabs[0], session);
    next_number--;
}

void fill(void)
{
    for (int i = 0; i < ACCOUNTS; i++) {
        accounts[i] = calloc(1, sizeof *accounts[i]);
        accounts[i]->id = 50 + i;
    }
    for (int i = 0; i < SESSIONS; i++)
        open_session();
}

static int used_pieces(const struct slab *slab)
{
    int count = 0;
    for (int i = 0; i < PIECES; i++)
        count += slab->used[i / 64] >> i % 64 & 1;
    return count;
}

const char *check(void)
{
    int number = SESSIONS;
    for (struct session *session = sessions; session; session = session->next) {
        char name[24];
        snprintf(name, sizeof name, "session %d", --number);
        EXPECT(session->number == number && strcmp(session->name, name) == 0);
        EXPECT(session->account == accounts[number % ACCOUNTS]);
        EXPECT(session->account->id == 50 + number % ACCOUNTS);
        EXPECT(timers[number]->session == session && timers[number]->due == 1000L + number);
    }
    EXPECT(number == 0 && used_pieces(&slabs[0]) == SESSIONS && used_pieces(&slabs[1]) == SESSIONS);
    EXPECT(accounts[0]->sessions == SESSIONS / ACCOUNTS);
    return NULL;
}

const char *busy(void)
{
    for (int i = 0; i < SESSIONS / 2; i++)
        close_last();
    for (int i = 0; i < SESSIONS / 2; i++)
        open_session();
    return NULL;
}
