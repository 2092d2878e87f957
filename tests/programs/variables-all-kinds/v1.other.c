int other_total;
extern int text;
int text = 5;
