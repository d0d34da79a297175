;; Wants to write a key.
;; where: start
;; expect: metadata can't be written
(data (i32.const 24576) "@key")
(func $on_configure (call $pair (i32.const 1084) (global.get $scratch) (i32.const 4)))
