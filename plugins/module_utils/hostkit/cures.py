"""The words of the causes that ``hostkit.causes`` tells apart: what each means, and what to set or run.

docs/reference/problems.md is rendered from this; the verdict says it in the lab's language. UNIT stands for the unit's
name where there is one; the cure of a unit on Windows says `ON_WINDOWS` in the place of what Linux is told.
"""
# ruff: noqa: E501

from __future__ import annotations

ON_WINDOWS = {
    "systemctl reset-failed UNIT && systemctl restart UNIT": "Restart-Service UNIT",
    "systemctl restart UNIT": "Restart-Service UNIT",
}
CURES: dict[str, dict[str, tuple[str, str]]] = {
    "LW-PROBE-010": {
        "en": (
            "No worker is registered for the model.",
            "See whether its worker's service is active; one that lives registers again within a minute. Else run site.yml.",
        ),
        "zh": (
            "没有为该模型注册的工作进程。",
            "请看它的工作进程服务是否在运行；活着的会在一分钟内重新注册。否则请运行 site.yml。",
        ),
    },
    "LW-PROBE-011": {
        "en": (
            "A worker is known to the lab and does not answer at its address.",
            "On that worker's host: restart its service labwright-worker-… (systemctl restart; on Windows Restart-Service); its log says why it ended.",
        ),
        "zh": (
            "实验室知道某个工作进程，但它的地址没有回答。",
            "请在那台主机上重启它的服务 labwright-worker-…（systemctl restart；Windows 上用 Restart-Service）；它的日志写着结束的原因。",
        ),
    },
    "LW-PROBE-012": {
        "en": (
            "The GPU has no memory left for this request.",
            "Ask with fewer or shorter messages at once, end other programs on the GPU, or set a smaller quantization in lab_models.",
        ),
        "zh": (
            "GPU 显存不足以处理该请求。",
            "请减少同时的或过长的请求，结束占用 GPU 的其他程序，或在 lab_models 里设置更小的 quantization。",
        ),
    },
    "LW-PROBE-013": {
        "en": (
            "The model's name is not one that the lab serves.",
            "Ask with one of the names that are there, or add this one to the model's aliases in lab_models and run site.yml.",
        ),
        "zh": (
            "实验室没有提供这个名字的模型。",
            "请使用现有的名字，或把它加进 lab_models 里该模型的 aliases，再运行 site.yml。",
        ),
    },
    "LW-PROBE-014": {
        "en": (
            "The key is missing or is none of the lab's.",
            "Run site.yml, which puts the current keys in place; people get theirs from lab_api_keys.",
        ),
        "zh": (
            "缺少密钥，或密钥不属于本实验室。",
            "请运行 site.yml，它会放好当前的密钥；人员的密钥来自 lab_api_keys。",
        ),
    },
    "LW-PROBE-015": {
        "en": (
            "The certificate was made by an authority that is not trusted here.",
            "Run site.yml, which brings the lab's authority to this host; if it stays so, another machine answers at that address.",
        ),
        "zh": (
            "证书由这里不信任的机构签发。",
            "请运行 site.yml，把实验室的根证书放到这台主机；如果依旧，说明该地址上是另一台机器。",
        ),
    },
    "LW-PROBE-016": {
        "en": (
            "The certificate has expired, or is not valid yet.",
            "Run site.yml, which renews it; and compare the clocks of both hosts.",
        ),
        "zh": ("证书已过期，或尚未生效。", "请运行 site.yml 续签；并核对两台主机的时钟。"),
    },
    "LW-PROBE-017": {
        "en": (
            "The certificate is for another name than the one asked for.",
            "Ask by a name that the certificate has, or set lab_address on that host and run site.yml.",
        ),
        "zh": (
            "证书的名字与所访问的名字不符。",
            "请用证书里有的名字访问，或为那台主机设置 lab_address 后运行 site.yml。",
        ),
    },
    "LW-PROBE-018": {
        "en": (
            "One side speaks plain HTTP where the other speaks TLS.",
            "Ask the lab's API with https://; if that was done, run site.yml, which puts the gateway before the API.",
        ),
        "zh": (
            "一方使用明文 HTTP，另一方使用 TLS。",
            "请用 https:// 访问实验室的 API；如果已经如此，请运行 site.yml，把网关放到 API 前面。",
        ),
    },
    "LW-PROBE-019": {
        "en": (
            "The TLS handshake was broken off.",
            "See the gateway's journal on that host; a proxy or firewall between may also have cut it off.",
        ),
        "zh": ("TLS 握手被中断。", "请看那台主机上网关的日志；也可能是中间的代理或防火墙切断的。"),
    },
    "LW-PROBE-020": {
        "en": (
            "Nothing listens at the address.",
            "On that host, see which unit labwright-* is not active (playbooks/verify.yml names it), and restart it.",
        ),
        "zh": (
            "该地址没有程序监听。",
            "请在那台主机上查看哪个 labwright-* 单元没有运行（playbooks/verify.yml 会指出），并重启它。",
        ),
    },
    "LW-PROBE-021": {
        "en": (
            "The controller is down.",
            "On the controller's host: restart labwright-controller (systemctl restart; on Windows Restart-Service); workers come back to it by themselves.",
        ),
        "zh": (
            "控制器没有运行。",
            "请在控制器主机上重启 labwright-controller（systemctl restart；Windows 上用 Restart-Service）；工作进程会自己回来。",
        ),
    },
    "LW-PROBE-022": {
        "en": (
            "The API is up, and the controller that it asks is down.",
            "On the controller's host: restart labwright-controller (systemctl restart; on Windows Restart-Service); the API needs nothing.",
        ),
        "zh": (
            "API 在运行，但它询问的控制器没有运行。",
            "请在控制器主机上重启 labwright-controller（systemctl restart；Windows 上用 Restart-Service）；API 不需要处理。",
        ),
    },
    "LW-PROBE-023": {
        "en": (
            "The port belongs to another program.",
            "Stop that program, or set another lab_*_port and run site.yml.",
        ),
        "zh": ("端口被另一个程序占用。", "请停掉那个程序，或另设 lab_*_port 后运行 site.yml。"),
    },
    "LW-PROBE-024": {
        "en": (
            "The request is longer than the model or the gateway takes.",
            "Send fewer or shorter messages, or set a smaller max_tokens.",
        ),
        "zh": ("请求超过了模型或网关的长度限制。", "请减少或缩短消息，或设置更小的 max_tokens。"),
    },
    "LW-PROBE-025": {
        "en": (
            "Too many requests with this key in too short a time.",
            "Ask more slowly, or raise gateway_rate and run site.yml.",
        ),
        "zh": ("同一密钥在短时间内的请求过多。", "请放慢请求，或调高 gateway_rate 后运行 site.yml。"),
    },
    "LW-PROBE-026": {
        "en": (
            "The gateway is up, and the API behind it is down.",
            "On the API's host: systemctl restart labwright-api; its journal says why it ended.",
        ),
        "zh": (
            "网关在运行，但它后面的 API 没有运行。",
            "请在 API 主机上运行 systemctl restart labwright-api；它的日志写着结束的原因。",
        ),
    },
    "LW-PROBE-027": {
        "en": (
            "It takes the request and says nothing: it hangs, or is busy beyond its limit.",
            "Wait until other requests have ended; else restart the worker's unit that does not answer.",
        ),
        "zh": (
            "它接受了请求却没有回答：挂起，或忙得超过限度。",
            "请等其他请求结束；否则请重启那个不回答的工作进程单元。",
        ),
    },
    "LW-PROBE-028": {
        "en": (
            "No way leads there: no route, or a firewall drops what is sent.",
            "See that the host is up and its address is lab_address; run site.yml to load the lab's firewall again.",
        ),
        "zh": (
            "网络不通：没有路由，或被防火墙丢弃。",
            "请确认主机在线且地址是 lab_address；运行 site.yml 重新加载实验室的防火墙。",
        ),
    },
    "LW-PROBE-029": {
        "en": ("The host's name is not known here.", "Set lab_address on that host to an address, and run site.yml."),
        "zh": ("这里不认识该主机名。", "请把那台主机的 lab_address 设为地址，再运行 site.yml。"),
    },
    "LW-PROBE-030": {
        "en": (
            "A service is not active.",
            "On that host: mend what its last words say, then systemctl restart UNIT; or run site.yml.",
        ),
        "zh": (
            "有服务没有运行。",
            "请在那台主机上先解决它最后的话所说的问题，再运行 systemctl restart UNIT；或运行 site.yml。",
        ),
    },
    "LW-PROBE-031": {
        "en": (
            "A service was given up after too many starts.",
            "On that host: mend what its last words say, then systemctl reset-failed UNIT && systemctl restart UNIT; or run site.yml.",
        ),
        "zh": (
            "有服务因启动次数过多而被放弃。",
            "请在那台主机上先解决它最后的话所说的问题，再运行 systemctl reset-failed UNIT && systemctl restart UNIT；或运行 site.yml。",
        ),
    },
    "LW-PROBE-032": {
        "en": (
            "The program failed while it worked on the request.",
            "See the traceback in its log (playbooks/logs.yml brings it); then restart its service.",
        ),
        "zh": ("程序处理该请求时失败。", "请看它日志里的回溯（playbooks/logs.yml 会取来）；然后重启它的服务。"),
    },
    "LW-PROBE-033": {
        "en": (
            "The answer is not one that the lab's programs give.",
            "See what listens at that address; run site.yml to put the lab's own program there.",
        ),
        "zh": ("回答不像实验室的程序所给。", "请看那个地址上是什么程序；运行 site.yml，让实验室自己的程序在那里运行。"),
    },
    "LW-PROBE-034": {
        "en": (
            "The model answered nothing of use.",
            "Ask another question; if it stays so, have the model's files checked again with site.yml, and restart its worker.",
        ),
        "zh": (
            "模型没有给出有用的回答。",
            "请换个问题；如果依旧，请用 site.yml 重新检查模型文件，并重启它的工作进程。",
        ),
    },
    "LW-PROBE-035": {
        "en": (
            "The connection broke off in the middle of the answer.",
            "Ask again; if it stays so, the journal of the API or the worker says why it ended.",
        ),
        "zh": ("连接在回答中途断开。", "请重试；如果依旧，API 或工作进程的日志写着结束的原因。"),
    },
    "LW-PROBE-036": {
        "en": (
            "The agent did not solve its task.",
            "Run its program by hand on that host, without --json, to see the conversation.",
        ),
        "zh": ("智能体没有完成任务。", "请在那台主机上手工运行它的程序（不带 --json），查看对话。"),
    },
    "LW-PROBE-037": {
        "en": ("A certificate expires soon.", "Run site.yml, which renews it without a request lost."),
        "zh": ("证书即将过期。", "请运行 site.yml，它会续签，不丢请求。"),
    },
    "LW-PROBE-038": {
        "en": (
            "A door that must be closed is open.",
            "Run site.yml, which puts the gateway and the firewall in order; until then others can use the lab.",
        ),
        "zh": ("应当关闭的入口是开着的。", "请运行 site.yml，恢复网关和防火墙；在此之前别人也能使用实验室。"),
    },
    "LW-PROBE-039": {
        "en": ("A file or program that the check needs is not there.", "Run site.yml, which puts it in place."),
        "zh": ("检查所需的文件或程序不存在。", "请运行 site.yml，它会放好。"),
    },
    "LW-PROBE-040": {
        "en": ("The lab's firewall is not as it was planned.", "Run site.yml, which loads it again."),
        "zh": ("实验室的防火墙与规划不符。", "请运行 site.yml 重新加载。"),
    },
    "LW-PROBE-041": {
        "en": (
            "A host gave no answer at all.",
            "See the host's error in this run; see that it is up and SSH (on Windows WinRM) reaches it.",
        ),
        "zh": ("有主机完全没有回答。", "请看本次运行中这台主机的错误；确认它在线且 SSH（Windows 上是 WinRM）可达。"),
    },
    "LW-PROBE-042": {
        "en": (
            "The chat page does not answer.",
            "On its host: systemctl restart labwright-web; its journal says why it ended.",
        ),
        "zh": ("聊天网页没有回答。", "请在那台主机上运行 systemctl restart labwright-web；它的日志写着结束的原因。"),
    },
}
