;; Has a name among its reads that would turn the direction of a line around.
;; where: start
;; expect: its reads have the name `x\u{202e}`, which must be printable
(data (i32.const 24576) "x\e2\80\ae")
(func $on_configure (call $pair (i32.const 1076) (global.get $scratch) (i32.const 4)))
