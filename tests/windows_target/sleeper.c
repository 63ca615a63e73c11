/* A service's program: writes its environment variable TOLD and its working folder to the file it is given, and sleeps. */
#include <stdio.h>
#include <windows.h>

int main(int count, char **words) {
    char folder[MAX_PATH], told[256] = "";
    GetCurrentDirectoryA(sizeof folder, folder);
    GetEnvironmentVariableA("TOLD", told, sizeof told);
    if (count > 1) {
        FILE *file = fopen(words[1], "a");
        if (file) {
            fprintf(file, "%s|%s|%s\n", folder, told, count > 2 ? words[2] : "");
            fclose(file);
        }
    }
    Sleep(INFINITE);
    return 0;
}
