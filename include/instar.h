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

#endif
