enum { PIECES = 64, SESSIONS = 300 };

struct slab {
    struct slab *next;
    uint64_t used;
    struct session pieces[PIECES];
};

STATE struct slab *slabs;
STATE struct session *sessions;
STATE int count;

static struct slab *slab_of(const struct session *session)
{
    struct slab *slab = slabs;
    while (session < slab->pieces || session >= slab->pieces + PIECES)
        slab = slab->next;
    return slab;
}

static struct slab *slab_with_room(void)
{
    struct slab *slab = slabs;
    while (slab && slab->used == UINT64_MAX)
        slab = slab->next;
    if (slab == NULL) {
        slab = calloc(1, sizeof *slab);
        slab->next = slabs;
        slabs = slab;
    }
    return slab;
}

static void open_session(void)
{
    struct slab *slab = slab_with_room();
    int index = __builtin_ctzll(~slab->used);
    struct session *session = &slab->pieces[index];
    slab->used |= UINT64_C(1) << index;
    session->number = count++;
    snprintf(session->name, sizeof session->name, "session %d", session->number);
    session->next = sessions;
    sessions = session;
}

static void close_last(void)
{
    struct session *session = sessions;
    struct slab *slab = slab_of(session);
    sessions = session->next;
    slab->used &= ~(UINT64_C(1) << (session - slab->pieces));
    memset(session, 0, sizeof *session);
    count--;
}

void fill(void)
{
    for (int i = 0; i < SESSIONS; i++)
        open_session();
}

const char *check(void)
{
    int number = SESSIONS, used = 0;
    for (struct session *session = sessions; session; session = session->next) {
        struct slab *slab = slab_of(session);
        char name[20];
        snprintf(name, sizeof name, "session %d", --number);
        EXPECT(session->number == number && strcmp(session->name, name) == 0);
        EXPECT(slab->used >> (session - slab->pieces) & 1);
    }
    for (struct slab *slab = slabs; slab; slab = slab->next)
        used += __builtin_popcountll(slab->used);
    EXPECT(number == 0 && count == SESSIONS && used == SESSIONS);
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
