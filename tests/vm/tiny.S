.code16
.intel_syntax noprefix
.globl _start
# A guest in one boot sector, for tests of the harness: one letter on the serial console is one command.
# p: pretend to panic; r: reset; o: power off; c: count in memory; w, l: write and read the counter on disk.
# Anything else is echoed. The power button works. tiny.py holds what this assembles to:
#   as --32 -o tiny.o tiny.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o tiny.bin tiny.o
_start:
  xor ax, ax
  mov ds, ax
  mov es, ax
  mov ss, ax
  mov sp, 0x7c00
  mov [drive], dl
  mov byte ptr [sector], '0'
  mov dx, 0x602          # ACPI PM1 enable: the power button
  mov ax, 0x100
  out dx, ax
  sti
  mov si, offset hello
  call puts
poll:
  hlt
  mov dx, 0x600          # ACPI PM1 status of q35 under SeaBIOS; bit 8: power button
  in ax, dx
  test ah, 1
  jnz off
  mov dx, 0x3fd          # line status of COM1; bit 0: a byte has come
  in al, dx
  test al, 1
  jz poll
  mov dl, 0xf8
  in al, dx
  cmp al, 'p'
  je panic
  cmp al, 'r'
  je reset
  cmp al, 'o'
  je off
  cmp al, 'c'
  je count
  cmp al, 'w'
  je write
  cmp al, 'l'
  je load
  call putc
  jmp poll
panic:
  mov si, offset dying
  call puts
  jmp poll
reset:
  mov al, 0xfe
  out 0x64, al
  hlt
off:
  mov dx, 0x604
  mov ax, 0x2000
  out dx, ax
  jmp poll
count:
  inc byte ptr [sector]
show:
  mov si, offset counted
  call puts
  mov al, [sector]
  call putc
  mov al, 10
  call putc
  jmp poll
write:
  mov ah, 0x43
  jmp disk
load:
  mov ah, 0x42
disk:
  xor al, al
  mov si, offset packet
  mov dl, [drive]
  int 0x13
  jnc show
  mov si, offset failed
  call puts
  jmp poll
puts:
  lodsb
  test al, al
  jz done
  call putc
  jmp puts
done:
  ret
putc:
  push dx
  push ax
  mov dx, 0x3fd
1: in al, dx
  test al, 0x20
  jz 1b
  pop ax
  mov dl, 0xf8
  out dx, al
  pop dx
  ret
hello: .asciz "tiny: ready\n"
dying: .asciz "[ 1.0] Kernel panic - not syncing: tiny\n"
counted: .asciz "tiny: "
failed: .asciz "tiny: disk\n"
drive: .byte 0
.balign 4
packet: .byte 16, 0
  .word 1
  .word sector
  .word 0
  .quad 1
.org 510
.word 0xaa55
sector:
