/* The target's hand inside Windows: what the module stand-ins cannot do from outside, one call each.
 *
 *   hand.exe run                              the command line in HAND_LINE, in the folder HAND_FOLDER; how it ended
 *                                             goes to the file HAND_STATUS ("exit N", or "error N" where nothing ran),
 *                                             because a Unix exit status keeps eight bits only
 *   hand.exe registry read KEY                JSON: exists, values (name, type, hex), keys
 *   hand.exe registry write KEY [NAME TYPE HEX]
 *   hand.exe registry drop KEY [NAME]
 *   hand.exe service list [NAME]              JSON: what the service control manager says
 *   hand.exe service start|stop|pause|continue|delete NAME
 *   hand.exe service create NAME PATH
 *   hand.exe service set NAME FIELD VALUE     FIELD: start (auto, delayed, manual, disabled), path, display, description
 *   hand.exe process list                     JSON: processes (pid, parent, name)
 *   hand.exe stay                             keeps the desktop there. Where nobody has it, each program that wants it
 *                                             starts an explorer.exe, which holds that program's output for a second more.
 *                                             And ends services whose last word Wine's service manager lost, see lost()
 *
 * Whatever is not `run` or a JSON answer prints {"error": N}, a Windows error code, 0 for none.
 * A copy under another name (powershell.exe, netsh.exe …) refuses to run: Wine ships programs of these names that do
 * nothing and end with 0, so that a test which calls them would pass for no reason.
 */
#include <windows.h>
#include <tlhelp32.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>

#define REFUSED 97
#define LONGEST 32768
#define TRIES 5 /* in Wine a new process dies now and then before its program runs: error 1359, which Windows never gives */

static void text(const WCHAR *s) {
    putchar('"');
    for (; s && *s; s++) {
        if (*s >= 32 && *s < 127 && *s != '"' && *s != '\\') putchar((char)*s);
        else printf("\\u%04x", (unsigned)*s);
    }
    putchar('"');
}

static int answer(DWORD error) { printf("{\"error\": %lu}\n", error); return 0; }

static void status(const WCHAR *path, const char *word, DWORD number) {
    FILE *file = _wfopen(path, L"wb");
    if (file) { fprintf(file, "%s %lu", word, number); fclose(file); }
}

static WCHAR *variable(const WCHAR *name) {
    WCHAR *value = calloc(LONGEST, sizeof(WCHAR));
    DWORD length = GetEnvironmentVariableW(name, value, LONGEST);
    SetEnvironmentVariableW(name, NULL);
    return length ? value : NULL;
}

static int run(void) {
    WCHAR *line = variable(L"HAND_LINE"), *folder = variable(L"HAND_FOLDER"), *report = variable(L"HAND_STATUS");
    STARTUPINFOW start = {sizeof start};
    PROCESS_INFORMATION child;
    DWORD code = 1;
    if (!line || !report) return 2;
    start.dwFlags = STARTF_USESTDHANDLES;
    start.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    start.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    for (int left = TRIES; !CreateProcessW(NULL, line, NULL, NULL, TRUE, 0, NULL, folder, &start, &child);) {
        DWORD error = GetLastError();
        if (error == ERROR_INTERNAL_ERROR && --left) continue;
        status(report, "error", error);
        return 1;
    }
    WaitForSingleObject(child.hProcess, INFINITE);
    GetExitCodeProcess(child.hProcess, &code);
    status(report, "exit", code);
    return 0;
}

static HKEY hive(WCHAR *key, WCHAR **rest) {
    static const struct { const WCHAR *name; HKEY hive; } hives[] = {
        {L"HKLM", HKEY_LOCAL_MACHINE}, {L"HKCU", HKEY_CURRENT_USER}, {L"HKCR", HKEY_CLASSES_ROOT},
        {L"HKU", HKEY_USERS}, {L"HKCC", HKEY_CURRENT_CONFIG}};
    WCHAR *slash = wcschr(key, '\\');
    if (slash) { *slash = 0; *rest = slash + 1; } else *rest = key + wcslen(key);
    for (unsigned i = 0; i < sizeof hives / sizeof *hives; i++)
        if (!_wcsicmp(key, hives[i].name)) return hives[i].hive;
    return NULL;
}

static int read_key(HKEY top, const WCHAR *path) {
    HKEY key;
    WCHAR name[16384];
    BYTE *data = malloc(1 << 20);
    LONG error = RegOpenKeyExW(top, path, 0, KEY_READ, &key);
    if (error) { printf("{\"exists\": false, \"values\": [], \"keys\": []}\n"); return 0; }
    printf("{\"exists\": true, \"values\": [");
    for (DWORD i = 0;; i++) {
        DWORD length = 16384, size = 1 << 20, type;
        error = RegEnumValueW(key, i, name, &length, NULL, &type, data, &size);
        if (error) break;
        printf(i ? ", {\"name\": " : "{\"name\": ");
        text(name);
        printf(", \"type\": %lu, \"hex\": \"", type);
        for (DWORD j = 0; j < size; j++) printf("%02x", data[j]);
        printf("\"}");
    }
    printf("], \"keys\": [");
    for (DWORD i = 0;; i++) {
        DWORD length = 16384;
        if (RegEnumKeyExW(key, i, name, &length, NULL, NULL, NULL, NULL)) break;
        if (i) printf(", ");
        text(name);
    }
    printf("]}\n");
    RegCloseKey(key);
    return 0;
}

static DWORD write_value(HKEY top, const WCHAR *path, int more, WCHAR **words) {
    HKEY key;
    LONG error = RegCreateKeyExW(top, path, 0, NULL, 0, KEY_ALL_ACCESS, NULL, &key, NULL);
    if (error || more < 3) return error;
    DWORD size = wcslen(words[2]) / 2;
    BYTE *data = malloc(size + 1);
    for (DWORD i = 0; i < size; i++) {
        unsigned byte;
        swscanf(words[2] + 2 * i, L"%2x", &byte);
        data[i] = byte;
    }
    error = RegSetValueExW(key, *words[0] ? words[0] : NULL, 0, _wtoi(words[1]), data, size);
    RegCloseKey(key);
    return error;
}

static DWORD drop(HKEY top, const WCHAR *path, const WCHAR *name) {
    HKEY key;
    LONG error;
    if (!name) {
        error = RegDeleteTreeW(top, path);
        if (!error) RegDeleteKeyW(top, path);
        return error;
    }
    error = RegOpenKeyExW(top, path, 0, KEY_ALL_ACCESS, &key);
    if (error) return error;
    error = RegDeleteValueW(key, *name ? name : NULL);
    RegCloseKey(key);
    return error;
}

static int registry(int count, WCHAR **words) {
    WCHAR *path;
    HKEY top;
    if (count < 2 || !(top = hive(words[1], &path))) return answer(ERROR_INVALID_PARAMETER);
    if (!wcscmp(words[0], L"read")) return read_key(top, path);
    if (!wcscmp(words[0], L"write")) return answer(write_value(top, path, count - 2, words + 2));
    if (!wcscmp(words[0], L"drop")) return answer(drop(top, path, count > 2 ? words[2] : NULL));
    return answer(ERROR_INVALID_PARAMETER);
}

static void describe(SC_HANDLE manager, ENUM_SERVICE_STATUS_PROCESSW *one) {
    static BYTE space[65536], words[65536];
    DWORD needed;
    SERVICE_STATUS_PROCESS *state = &one->ServiceStatusProcess;
    QUERY_SERVICE_CONFIGW *config = (QUERY_SERVICE_CONFIGW *)space;
    SERVICE_DESCRIPTIONW *description = (SERVICE_DESCRIPTIONW *)words;
    printf("{\"name\": ");
    text(one->lpServiceName);
    printf(", \"display_name\": ");
    text(one->lpDisplayName);
    printf(", \"state\": %lu, \"process_id\": %lu, \"accepts\": %lu, \"win32_exit_code\": %lu, \"service_exit_code\": %lu, "
           "\"checkpoint\": %lu, \"wait_hint\": %lu, \"type\": %lu",
           state->dwCurrentState, state->dwProcessId, state->dwControlsAccepted, state->dwWin32ExitCode,
           state->dwServiceSpecificExitCode, state->dwCheckPoint, state->dwWaitHint, state->dwServiceType);
    SC_HANDLE service = OpenServiceW(manager, one->lpServiceName, SERVICE_QUERY_CONFIG);
    if (service && QueryServiceConfigW(service, config, sizeof space, &needed)) {
        printf(", \"start\": %lu, \"error_control\": %lu, \"path\": ", config->dwStartType, config->dwErrorControl);
        text(config->lpBinaryPathName);
        printf(", \"username\": ");
        text(config->lpServiceStartName);
        printf(", \"load_order_group\": ");
        text(config->lpLoadOrderGroup);
    }
    if (service && QueryServiceConfig2W(service, SERVICE_CONFIG_DESCRIPTION, words, sizeof words, &needed)) {
        printf(", \"description\": ");
        text(description->lpDescription);
    }
    if (service) CloseServiceHandle(service);
    printf("}");
}

static int list(SC_HANDLE manager, const WCHAR *name) {
    DWORD needed = 0, count = 0, again = 0, shown = 0;
    EnumServicesStatusExW(manager, SC_ENUM_PROCESS_INFO, SERVICE_WIN32, SERVICE_STATE_ALL, NULL, 0, &needed, &count,
                          &again, NULL);
    BYTE *space = calloc(1, needed + 65536);
    again = 0;
    if (!EnumServicesStatusExW(manager, SC_ENUM_PROCESS_INFO, SERVICE_WIN32, SERVICE_STATE_ALL, space, needed + 65536,
                               &needed, &count, &again, NULL))
        return answer(GetLastError());
    ENUM_SERVICE_STATUS_PROCESSW *services = (ENUM_SERVICE_STATUS_PROCESSW *)space;
    printf("{\"error\": 0, \"services\": [");
    for (DWORD i = 0; i < count; i++) {
        if (name && _wcsicmp(name, services[i].lpServiceName) && _wcsicmp(name, services[i].lpDisplayName)) continue;
        if (shown++) printf(", ");
        describe(manager, services + i);
    }
    printf("]}\n");
    return 0;
}

static DWORD set(SC_HANDLE service, const WCHAR *field, WCHAR *value) {
    DWORD start = SERVICE_NO_CHANGE;
    SERVICE_DESCRIPTIONW description = {value};
    if (!wcscmp(field, L"description"))
        return ChangeServiceConfig2W(service, SERVICE_CONFIG_DESCRIPTION, &description) ? 0 : GetLastError();
    if (!wcscmp(field, L"start")) {
        SERVICE_DELAYED_AUTO_START_INFO delayed = {!wcscmp(value, L"delayed")};
        start = !wcscmp(value, L"manual") ? SERVICE_DEMAND_START
              : !wcscmp(value, L"disabled") ? SERVICE_DISABLED : SERVICE_AUTO_START;
        ChangeServiceConfig2W(service, SERVICE_CONFIG_DELAYED_AUTO_START_INFO, &delayed);
    }
    if (ChangeServiceConfigW(service, SERVICE_NO_CHANGE, start, SERVICE_NO_CHANGE,
                             wcscmp(field, L"path") ? NULL : value, NULL, NULL, NULL, NULL, NULL,
                             wcscmp(field, L"display") ? NULL : value))
        return 0;
    return GetLastError();
}

static int service(int count, WCHAR **words) {
    SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_ALL_ACCESS), one;
    SERVICE_STATUS state;
    BOOL done = FALSE;
    if (!manager) return answer(GetLastError());
    if (!wcscmp(words[0], L"list")) return list(manager, count > 1 ? words[1] : NULL);
    if (count < 2) return answer(ERROR_INVALID_PARAMETER);
    if (!wcscmp(words[0], L"create")) {
        if (count < 3) return answer(ERROR_INVALID_PARAMETER);
        one = CreateServiceW(manager, words[1], words[1], SERVICE_ALL_ACCESS, SERVICE_WIN32_OWN_PROCESS,
                             SERVICE_AUTO_START, SERVICE_ERROR_NORMAL, words[2], NULL, NULL, NULL, NULL, NULL);
        return answer(one ? 0 : GetLastError());
    }
    one = OpenServiceW(manager, words[1], SERVICE_ALL_ACCESS);
    if (!one) return answer(GetLastError());
    if (!wcscmp(words[0], L"start")) done = StartServiceW(one, 0, NULL);
    else if (!wcscmp(words[0], L"stop")) done = ControlService(one, SERVICE_CONTROL_STOP, &state);
    else if (!wcscmp(words[0], L"pause")) done = ControlService(one, SERVICE_CONTROL_PAUSE, &state);
    else if (!wcscmp(words[0], L"continue")) done = ControlService(one, SERVICE_CONTROL_CONTINUE, &state);
    else if (!wcscmp(words[0], L"delete")) done = DeleteService(one);
    else if (!wcscmp(words[0], L"set") && count > 3) return answer(set(one, words[2], words[3]));
    else return answer(ERROR_INVALID_PARAMETER);
    return answer(done ? 0 : GetLastError());
}

static int processes(void) {
    PROCESSENTRY32W one = {.dwSize = sizeof one};
    HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    DWORD shown = 0;
    if (all == INVALID_HANDLE_VALUE) return answer(GetLastError());
    printf("{\"error\": 0, \"processes\": [");
    for (BOOL more = Process32FirstW(all, &one); more; more = Process32NextW(all, &one)) {
        printf("%s{\"pid\": %lu, \"parent\": %lu, \"name\": ", shown++ ? ", " : "", one.th32ProcessID,
               one.th32ParentProcessID);
        text(one.szExeFile);
        printf("}");
    }
    printf("]}\n");
    return 0;
}

static BOOL parent(DWORD pid) {
    PROCESSENTRY32W one = {.dwSize = sizeof one};
    HANDLE all = CreateToolhelp32Snapshot(TH32CS_SNAPPROCESS, 0);
    BOOL found = FALSE;
    for (BOOL more = Process32FirstW(all, &one); more && !found; more = Process32NextW(all, &one))
        found = one.th32ParentProcessID == pid;
    CloseHandle(all);
    return found;
}

/* A service that waits in SetServiceStatus for ever, for the service manager never gets its call or it never gets the
 * answer (seen in winedbg, in one of two stops of an nssm.exe whose program was ended). It stops since LOST_S, no process
 * of its own is left to wait for, and it says nothing new. What Windows does when the process of a service ends, Wine does
 * not either: the manager would say SERVICE_STOP_PENDING for ever. Each is told of in windows\temp\labwright-lost.txt. */
#define EVERY_S 3
#define LOST_S 15
#define MOST 64

static void lost(SC_HANDLE manager) {
    static struct { WCHAR name[256]; DWORD word, seconds; } seen[MOST];
    static BYTE space[262144];
    DWORD needed, count = 0, again = 0;
    ENUM_SERVICE_STATUS_PROCESSW *services = (ENUM_SERVICE_STATUS_PROCESSW *)space;
    if (!EnumServicesStatusExW(manager, SC_ENUM_PROCESS_INFO, SERVICE_WIN32, SERVICE_STATE_ALL, space, sizeof space,
                               &needed, &count, &again, NULL))
        return;
    for (DWORD i = 0; i < count && i < MOST; i++) {
        SERVICE_STATUS_PROCESS *now = &services[i].ServiceStatusProcess;
        BOOL same = !wcscmp(seen[i].name, services[i].lpServiceName) && seen[i].word == now->dwCheckPoint;
        BOOL alone = now->dwCurrentState == SERVICE_STOP_PENDING && !parent(now->dwProcessId);
        lstrcpynW(seen[i].name, services[i].lpServiceName, 256);
        seen[i].word = now->dwCheckPoint;
        seen[i].seconds = same && alone ? seen[i].seconds + EVERY_S : 0;
        if (seen[i].seconds < LOST_S) continue;
        SC_HANDLE service = OpenServiceW(manager, services[i].lpServiceName, 0x8000 /* to say how it is */);
        HANDLE process = OpenProcess(PROCESS_TERMINATE, FALSE, now->dwProcessId);
        SERVICE_STATUS stopped = {now->dwServiceType, SERVICE_STOPPED};
        FILE *file = _wfopen(L"C:\\windows\\temp\\labwright-lost.txt", L"ab");
        if (process) TerminateProcess(process, 1);
        BOOL said = SetServiceStatus((SERVICE_STATUS_HANDLE)service, &stopped);
        if (file) fprintf(file, "%ls: its last word was lost; %s\n", seen[i].name, said ? "stopped" : "still there");
        if (file) fclose(file);
        if (process) CloseHandle(process);
        if (service) CloseServiceHandle(service);
        seen[i].seconds = 0;
    }
}

int wmain(int count, WCHAR **words) {
    static WCHAR self[MAX_PATH];
    GetModuleFileNameW(NULL, self, MAX_PATH);
    const WCHAR *name = wcsrchr(self, '\\') ? wcsrchr(self, '\\') + 1 : self;
    if (_wcsicmp(name, L"labwright-hand.exe")) {
        fprintf(stderr, "This test target has no %ls: Wine's program of that name does nothing and ends with 0.\n", name);
        return REFUSED;
    }
    if (count > 1 && !wcscmp(words[1], L"run")) return run();
    if (count > 2 && !wcscmp(words[1], L"registry")) return registry(count - 2, words + 2);
    if (count > 2 && !wcscmp(words[1], L"service")) return service(count - 2, words + 2);
    if (count > 1 && !wcscmp(words[1], L"process")) return processes();
    if (count > 1 && !wcscmp(words[1], L"stay")) {
        SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_ENUMERATE_SERVICE | SC_MANAGER_CONNECT);
        GetDesktopWindow();
        for (;; Sleep(EVERY_S * 1000)) lost(manager);
    }
    return 2;
}
