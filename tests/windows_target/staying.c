/* A service that says LAST when it is told to stop (SERVICE_STOPPED, if nothing else is), and whose process goes on. */
#include <windows.h>

#ifndef LAST
#define LAST SERVICE_STOPPED
#endif

static SERVICE_STATUS_HANDLE manager;

static void say(DWORD state) {
    SERVICE_STATUS status = {SERVICE_WIN32_OWN_PROCESS, state, SERVICE_ACCEPT_STOP};
    SetServiceStatus(manager, &status);
}

static void WINAPI told(DWORD control) {
    if (control == SERVICE_CONTROL_STOP) say(LAST);
}

static void WINAPI service(DWORD count, LPSTR *words) {
    (void)count;
    (void)words;
    manager = RegisterServiceCtrlHandlerA("staying", told);
    say(SERVICE_RUNNING);
}

int main(void) {
    SERVICE_TABLE_ENTRYA table[] = {{"staying", service}, {NULL, NULL}};
    StartServiceCtrlDispatcherA(table);
    Sleep(INFINITE);
    return 0;
}
