;; Answers neither with a manifest nor with a message.
;; where: start
;; expect: invalid expected discriminant
(func $on_configure (i32.store8 (i32.const 1024) (i32.const 2)))
