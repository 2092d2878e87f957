/* A program that has nothing in common with counter.c but main. */
#include <stdio.h>
#include <stdlib.h>

static double temperature[12];
static const char *season = "winter";

static double average_temperature(void)
{
    double sum = 0;

    for (int month = 0; month < 12; month++)
        sum += temperature[month];
    return sum / 12;
}

static void print_season(void)
{
    printf("%s %f\n", season, average_temperature());
}

int main(void)
{
    print_season();
    return getchar();
}
