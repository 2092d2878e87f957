/* Shapes that C does not have, for a C program with a C++ unit in it: types in functions in structs. */
#include <cstdio>

struct base {
    virtual ~base() = default;
    int number = 1;
};
template <class T> struct box : base {
    struct inner {
        T value;
    };
    typedef T type;
    static int count;
    inner held{};
    int take(T value)
    {
        struct guard {
            box *self;
            ~guard() { self->held.value += 1; }
        } guard{this};
        held.value += value;
        return ++count;
    }
};
template <class T> int box<T>::count;
namespace names
{
int spaced = 4;
static box<long> boxed;
}

int main(int argc, char **)
{
    auto add = [&](int more) {
        static int calls;
        return calls += more + argc;
    };
    return std::printf("%d %d %d\n", names::boxed.take(argc), add(2), names::spaced) < 0;
}
