/* Annotations for instar: what the type of a member or variable cannot say.
 *
 * They are nothing but typedefs, whose names the debug information keeps: no library, no run-time cost, and a
 * program that uses them builds the same without instar.
 *
 *     #include <instar.h>
 *
 *     INSTAR_NOXFER_TYPE(stats_t);          // once, for a type of your own
 *     struct conn {
 *         PXFER(uintptr_t) owner;           // an integer that is a pointer: translated
 *         IXFER(voidptr) user_data;         // a pointer that is just a number: copied as it is
 *         NOXFER(stats_t) start_up;         // not transferred: keeps what the new version puts there
 *     };
 *
 * T must be a single word, so that it can be part of a name: give other types a typedef first. The types below
 * are there already.
 */
#ifndef INSTAR_H
#define INSTAR_H

#include <stdint.h>

#define IXFER(T) instar_ixfer_##T
#define PXFER(T) instar_pxfer_##T
#define NOXFER(T) instar_noxfer_##T

/* A pointer that carries bits of its own in its low end, such as `TAGGED(1, nodeptr) next;` in a struct with a name, or
 * a static variable: the address is translated, the bits stay. MASK is a number up to 255. */
#define TAGGED(MASK, T) instar_tagged_##MASK##_##T
#define INSTAR_TAGGED_TYPE(MASK, T) typedef T instar_tagged_##MASK##_##T

/* Which member of a union is in use, once at file scope:
 *
 *     INSTAR_UNION("struct value.u", "kind", "NUMBER: number, 2: text, *: other");
 *
 * The second text is the member of the same struct that says so; its values are enumerators or numbers, `*` all
 * others. Without `*` no member is in use then, and the union becomes zero. */
#define INSTAR_UNION(UNION, BY, CASES)                                                                       \
    static const char INSTAR_NAME_(instar_note_, __COUNTER__)[]                                              \
        __attribute__((used, section("instar_notes"))) = "union|" UNION "|" BY "|" CASES
#define INSTAR_NAME_(A, B) INSTAR_JOIN_(A, B)
#define INSTAR_JOIN_(A, B) A##B

/* Marks the function in which the program is to be updated: the one that makes the blocking call.
 *
 *     static INSTAR_UPDATE_POINT int wait_for_work(void) { return poll(sockets, count, -1); }
 *
 * With any, the program is updated while it waits inside one of them (or in what they call), and nowhere else.
 */
#if defined(__clang__)
#define INSTAR_UPDATE_POINT __attribute__((noinline, disable_tail_calls, section("instar_update_point")))
#else
#define INSTAR_UPDATE_POINT                                                                                  \
    __attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"), section("instar_update_point")))
#endif

/* At file scope, once for each type that is annotated. */
#define INSTAR_IXFER_TYPE(T) typedef T instar_ixfer_##T
#define INSTAR_PXFER_TYPE(T) typedef T instar_pxfer_##T
#define INSTAR_NOXFER_TYPE(T) typedef T instar_noxfer_##T

/* A name for `void *` that fits: IXFER(voidptr). */
typedef void *instar_ixfer_voidptr;
typedef void *instar_noxfer_voidptr;

#define INSTAR_ALL_TYPES_(T)                                                                                 \
    typedef T instar_ixfer_##T;                                                                              \
    typedef T instar_noxfer_##T

INSTAR_ALL_TYPES_(char);
INSTAR_ALL_TYPES_(short);
INSTAR_ALL_TYPES_(int);
INSTAR_ALL_TYPES_(unsigned);
INSTAR_ALL_TYPES_(long);
INSTAR_ALL_TYPES_(float);
INSTAR_ALL_TYPES_(double);
INSTAR_ALL_TYPES_(int8_t);
INSTAR_ALL_TYPES_(int16_t);
INSTAR_ALL_TYPES_(int32_t);
INSTAR_ALL_TYPES_(int64_t);
INSTAR_ALL_TYPES_(uint8_t);
INSTAR_ALL_TYPES_(uint16_t);
INSTAR_ALL_TYPES_(uint32_t);
INSTAR_ALL_TYPES_(uint64_t);
INSTAR_ALL_TYPES_(intptr_t);
INSTAR_ALL_TYPES_(uintptr_t);

/* Only what has the size of a pointer can be one. */
INSTAR_PXFER_TYPE(long);
INSTAR_PXFER_TYPE(int64_t);
INSTAR_PXFER_TYPE(uint64_t);
INSTAR_PXFER_TYPE(intptr_t);
INSTAR_PXFER_TYPE(uintptr_t);

INSTAR_TAGGED_TYPE(1, uintptr_t);
INSTAR_TAGGED_TYPE(3, uintptr_t);
INSTAR_TAGGED_TYPE(7, uintptr_t);

#endif
