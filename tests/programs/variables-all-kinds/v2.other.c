extern long spare[9];
extern int text;
long spare[9] = {1};
int other_total;
int text = 5;
