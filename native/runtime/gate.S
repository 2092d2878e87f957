/* Entry of the commit gate (gate.c). The tool sets rip here with
 *
 *     rsp = parked rsp - 136, the word at rsp = parked rip
 *
 * which leaves the 128 bytes of red zone below the parked stack pointer alone. Every general register and the flags
 * are kept; vector state is not touched by anything called here. `ret $128` puts rip and rsp back in one instruction:
 * a signal frame, which the kernel may push at any moment, can never lie on the word that is still to be popped.
 */
    .text
    .globl instar_runtime_gate
    .type instar_runtime_gate, @function
instar_runtime_gate:
    pushfq
    pushq %rax
    pushq %rbx
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    cld
    movq %rsp, %rdi
    movq %rsp, %rbp
    andq $-16, %rsp
    call instar_gate_wait
    movq %rbp, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
    popfq
    ret $128
    .size instar_runtime_gate, . - instar_runtime_gate
    .hidden instar_gate_wait

    .section .note.GNU-stack, "", @progbits
