;; Describes itself in more bytes than it may hand over.
;; where: start
;; expect: handed over more than the 1MiB of rule.guest.result
;; limit: result 1048576
(func $on_configure
  (drop (memory.grow (i32.const 20)))
  (memory.fill (i32.const 65536) (i32.const 97) (i32.const 1048577))
  (call $pair (i32.const 1044) (i32.const 65536) (i32.const 1048577)))
