/* The least that many workers can cost: a loop that starts N interpreters, and waits for them.

   floor N PYTHON SCRIPT */
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>

extern char **environ;

int main(int count, char **words) {
    if (count != 4) return 2;
    char *command[] = {words[2], "-u", words[3], NULL};
    int failed = 0, status;
    for (int left = atoi(words[1]); left > 0; left--) {
        pid_t pid;
        if (posix_spawn(&pid, words[2], NULL, NULL, command, environ)) return 1;
    }
    while (wait(&status) > 0) failed |= status != 0;
    return failed;
}
