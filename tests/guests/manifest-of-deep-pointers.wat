;; Wants to read a member two hundred levels deep, each of which would cost memory for every message.
;; where: start
;; expect: lies deeper than 16 levels
(func $on_configure
  (memory.fill (global.get $scratch) (i32.const 47) (i32.const 200))
  (call $pair (i32.const 1076) (global.get $scratch) (i32.const 200)))
